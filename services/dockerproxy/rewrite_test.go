package dockerproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// redact runs an answer through the rewriter, as it comes in pieces of n bytes.
func redact(answer string, show Show, kind string, n int) (string, error) {
	var from io.Reader = strings.NewReader(answer)
	if n == 1 {
		from = iotest.OneByteReader(from)
	}
	out, err := io.ReadAll(newRewriter(io.NopCloser(from), show, kind, func(int) {}))
	return string(out), err
}

func TestRedact(t *testing.T) {
	tests := []struct {
		name, kind, in, want string
		show                 Show
	}{
		{name: "a container's variables", kind: "containers",
			in:   `{"Id":"1","Config":{"Env":["A=1","EMPTY=","NAME","P=a\"b=c\u0041"],"Cmd":["A=1"],"Image":"x"}}`,
			want: `{"Id":"1","Config":{"Env":["A=[redacted]","EMPTY=[redacted]","NAME","P=[redacted]"],"Cmd":["A=1"],"Image":"x"}}`},
		{name: "a service's, twice", kind: "services",
			in:   `[{"Spec":{"TaskTemplate":{"ContainerSpec":{"Env":["A=1"]}}},"PreviousSpec":{"TaskTemplate":{"ContainerSpec":{"Env":["A=2"]}}}}]`,
			want: `[{"Spec":{"TaskTemplate":{"ContainerSpec":{"Env":["A=[redacted]"]}}},"PreviousSpec":{"TaskTemplate":{"ContainerSpec":{"Env":["A=[redacted]"]}}}}]`},
		{name: "a key in disguise", kind: "services",
			in:   `{"\u0045nv":["A=1"]}`,
			want: `{"\u0045nv":["A=[redacted]"]}`},
		{name: "a name in disguise", kind: "services",
			in:   `{"Env":["A\u003db"]}`,
			want: `{"Env":["A=[redacted]"]}`},
		{name: "a plugin's", kind: "plugins",
			in:   `{"Config":{"Env":[{"Name":"DEBUG","Value":"1","Description":"d","Settable":["value"]}]},"Settings":{"Env":["DEBUG=1"]}}`,
			want: `{"Config":{"Env":[{"Name":"DEBUG","Value":"[redacted]","Description":"d","Settable":["value"]}]},"Settings":{"Env":["DEBUG=[redacted]"]}}`},
		{name: "labels", kind: "containers",
			in:   `[{"Labels":{"homepage.widget.key":"k","caddy":"example.com","DB_PASSWORD":"p","com.docker.stack.namespace":"s","accessToken":"t","keyboard":"us","url":"https://u:p@host/","x":null}}]`,
			want: `[{"Labels":{"homepage.widget.key":"[redacted]","caddy":"example.com","DB_PASSWORD":"[redacted]","com.docker.stack.namespace":"s","accessToken":"[redacted]","keyboard":"us","url":"[redacted]","x":null}}]`},
		{name: "options of drivers", kind: "volumes",
			in:   `{"Volumes":[{"Options":{"o":"addr=10.0.0.1,username=u,password=p","type":"cifs"}}],"LogConfig":{"Type":"splunk","Config":{"splunk-token":"t","splunk-url":"https://s"}}}`,
			want: `{"Volumes":[{"Options":{"o":"[redacted]","type":"cifs"}}],"LogConfig":{"Type":"splunk","Config":{"splunk-token":"[redacted]","splunk-url":"https://s"}}}`},
		{name: "references to secrets stay", kind: "services",
			in:   `{"Secrets":[{"File":{"Name":"token"},"SecretID":"id","SecretName":"db_password"}]}`,
			want: `{"Secrets":[{"File":{"Name":"token"},"SecretID":"id","SecretName":"db_password"}]}`},
		{name: "configs", kind: "configs",
			in:   `[{"ID":"1","Spec":{"Name":"n","Data":"c2VjcmV0"}}]`,
			want: `[{"ID":"1","Spec":{"Name":"n","Data":"W3JlZGFjdGVkXQ=="}}]`},
		{name: "data that is no config's", kind: "containers",
			in:   `{"GraphDriver":{"Data":{"LowerDir":"/x"}},"Spec":{"Data":"x"}}`,
			want: `{"GraphDriver":{"Data":{"LowerDir":"/x"}},"Spec":{"Data":"x"}}`},
		{name: "the Swarm", kind: "swarm",
			in:   `{"ID":"x","JoinTokens":{"Worker":"SWMTKN-1","Manager":"SWMTKN-2"},"UnlockKey":"SWMKEY-1"}`,
			want: `{"ID":"x","JoinTokens":{"Worker":"[redacted]","Manager":"[redacted]"},"UnlockKey":"[redacted]"}`},
		{name: "an image's history", kind: "images",
			in:   `[{"CreatedBy":"RUN make"},{"CreatedBy":"ENV A=1"},{"CreatedBy":"|1 TOKEN=x /bin/sh -c make"},{"CreatedBy":"RUN |1 TOKEN=x /bin/sh -c make # buildkit"},{"CreatedBy":"ARG TOKEN=x"},{"CreatedBy":"/bin/sh -c #(nop)  ARG TOKEN=x"},{"CreatedBy":"LABEL db_password=x"},{"CreatedBy":"LABEL maintainer=x"}]`,
			want: `[{"CreatedBy":"RUN make"},{"CreatedBy":"[redacted]"},{"CreatedBy":"[redacted]"},{"CreatedBy":"[redacted]"},{"CreatedBy":"[redacted]"},{"CreatedBy":"[redacted]"},{"CreatedBy":"[redacted]"},{"CreatedBy":"LABEL maintainer=x"}]`},
		{name: "an engine's labels, a list", kind: "info",
			in:   `{"Labels":["db_password=x","zone=a","token","https://u:p@host/?token=x"]}`,
			want: `{"Labels":["db_password=[redacted]","zone=a","token","[redacted]"]}`},
		{name: "events", kind: "events",
			in:   "{\"Actor\":{\"Attributes\":{\"api_key\":\"1\",\"image\":\"i\"}}}\n{\"Type\":\"x\"}\n",
			want: "{\"Actor\":{\"Attributes\":{\"api_key\":\"[redacted]\",\"image\":\"i\"}}}\n{\"Type\":\"x\"}\n"},
		{name: "all shown", kind: "configs", show: Show{true, true, true, true},
			in:   `{"Spec":{"Data":"x","Labels":{"token":"t"}},"Env":["A=1"],"JoinTokens":{"Worker":"w"}}`,
			want: `{"Spec":{"Data":"x","Labels":{"token":"t"}},"Env":["A=1"],"JoinTokens":{"Worker":"w"}}`},
		{name: "labels shown alone", kind: "containers", show: Show{LabelValues: true},
			in:   `{"Config":{"Labels":{"token":"t"},"Env":["A=1"]}}`,
			want: `{"Config":{"Labels":{"token":"t"},"Env":["A=[redacted]"]}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, n := range []int{1, 0} {
				got, err := redact(test.in, test.show, test.kind, n)
				if err != nil || got != test.want {
					t.Errorf("in pieces of %d: got %s, %v\nwant %s", n, got, err, test.want)
				}
			}
		})
	}
}

// What is quick to tell must not tell less.
func TestQuickLooks(t *testing.T) {
	for word := range secretWords {
		for _, name := range []string{word, strings.ToUpper(word), "x." + word, "x_" + word + "_y", strings.ToUpper(word[:1]) + word[1:]} {
			if !secretName(name) {
				t.Errorf("%s is no secret's name", name)
			}
		}
	}
	for _, name := range append(slices.Clone(secretParts), "my"+secretParts[0]+"s", "KEY", "a.key", "basic_auth", "BasicAuth") {
		if !secretName(name) {
			t.Errorf("%s is no secret's name", name)
		}
	}
	for _, value := range []string{
		"password=x", "o=a,PASSWORD=x", "a;pwd=x", "?token=x", "&secret=x", "a pass=x", "passwd=x", "pa\u017f\u017f=x", "=,password=x",
		"a://u:p@h", "https://h/a:b://:p@h", "@ a://u:p@h", "a=b u://:p@h",
	} {
		if !holdsSecret(value) {
			t.Errorf("%s holds no secret", value)
		}
	}
}

// A string that is longer than what is kept of it.
func TestRedactLongStrings(t *testing.T) {
	long := strings.Repeat("secret ", maxString)
	for in, want := range map[string]string{
		`{"Env":["A=` + long + `"]}`:          `{"Env":["A=[redacted]"]}`,
		`{"Env":["` + long + `"]}`:            `{"Env":["[redacted]"]}`,
		`{"Env":["A\\` + long + `=x"]}`:       `{"Env":["[redacted]"]}`,
		`{"Labels":{"a":"` + long + `"}}`:     `{"Labels":{"a":"[redacted]"}}`,
		`{"Names":["` + long + `"],"Env":[]}`: `{"Names":["` + long + `"],"Env":[]}`,
	} {
		got, err := redact(in, Show{}, "containers", 0)
		if err != nil || got != want {
			t.Errorf("%.20s: got %.80s (%d bytes), %v; want %.80s (%d bytes)", in, got, len(got), err, want, len(want))
		}
	}
	if _, err := redact(`{"`+long+`":1}`, Show{}, "containers", 0); !errors.Is(err, errForm) {
		t.Errorf("a long key: got %v, want an error", err)
	}
}

func TestRedactRefusesOtherForms(t *testing.T) {
	for _, in := range []string{`{"Env":["A=1"`, `{"Env":["A=1`, `]`, `{]`, `[}`, `a,b`, `{{`, `:`, `{"a":1}}`, `{"Env\q":1}`, `{"Env":["A=1\q"]}`, strings.Repeat("[", maxDepth+1)} {
		for _, n := range []int{0, 1} {
			if got, err := redact(in, Show{}, "containers", n); err == nil || strings.Contains(got, "A=1") {
				t.Errorf("%.20s in pieces of %d: got %q, %v; want an error", in, n, got, err)
			}
		}
	}
}

// What a list is long makes no difference to what is kept of it.
func TestRedactKeepsLittle(t *testing.T) {
	entry := `{"Labels":{"token":"` + strings.Repeat("x", 500) + `"},"Env":["A=1"]},`
	from := io.MultiReader(strings.NewReader("["), io.LimitReader(&forever{entry: entry}, int64(len(entry))*20_000), strings.NewReader("1]"))
	w := newRewriter(io.NopCloser(from), Show{}, "containers", func(int) {})
	if _, err := io.Copy(io.Discard, w); err != nil {
		t.Fatal(err)
	}
	if kept := cap(w.out) + cap(w.in) + cap(w.raw); kept > 256<<10 {
		t.Errorf("kept %d bytes", kept)
	}
}

type forever struct {
	entry string
	at    int
}

func (f *forever) Read(p []byte) (int, error) {
	n := copy(p, f.entry[f.at:])
	f.at = (f.at + n) % len(f.entry)
	return n, nil
}

// FuzzRedact compares the rewriter with the same decisions on a decoded
// answer, and holds that nothing else changes.
func FuzzRedact(f *testing.F) {
	for _, seed := range []string{
		`{"Config":{"Env":["A=1","B"],"Labels":{"token":"x","a":"b"}}}`, `[{"Spec":{"Data":"x","Labels":null}},{"Env":{"A":"b"}}]`,
		`{"\u0045nv":["\u0041\u003d"]}`, `{"JoinTokens":["a",{"b":"c"}],"UnlockKey":"k"}`, `{"Options":{"Config":{"Value":"u://a:b@c"}}}`, `"x" [1,true,null] {}`, `{"a":"\\\"","Env":["\\=\""]}`,
	} {
		f.Add(seed, uint8(3), uint8(0))
		f.Add(seed, uint8(255), uint8(0))
	}
	f.Fuzz(func(t *testing.T, in string, size, shown uint8) {
		n := int(size)%17 + 1
		if size >= 128 {
			n = len(in) // most strings are whole
		}
		show := Show{shown&1 > 0, shown&2 > 0, shown&4 > 0, shown&8 > 0}
		want, ok := reference(in, show)
		w := newRewriter(io.NopCloser(&pieces{in, n}), show, "configs", func(int) {})
		got, err := io.ReadAll(w)
		if !ok {
			return // no JSON: an error, or what was there
		}
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		if seen, ok := reference(string(got), Show{true, true, true, true}); !ok || seen != want {
			t.Errorf("%q: got %q, want %q", in, seen, want)
		}
	})
}

// document writes JSON of the words that decide, some in disguise.
func document(r *rand.Rand, out *strings.Builder, depth int) {
	word := func() string {
		words := []string{
			"Env", "Labels", "Config", "Spec", "Data", "Name", "Value", "UnlockKey", "CreatedBy", "JoinTokens", "x", "", "db_password", "keyboard",
			"a=b", "TOKEN=x", "p=a=b", "https://u:p@h/", "a@b", "RUN |1 A=b", "ARG A=b", `\\`, `\"`, `a\\\"`, `\u0045nv`, `A\u003db`, "pass=x", strings.Repeat("y", 40),
		}
		return `"` + words[r.IntN(len(words))] + `"`
	}
	kinds := 8
	if depth == 0 {
		kinds = 6
	}
	switch kind := r.IntN(kinds); kind {
	case 0:
		out.WriteString([]string{"null", "true", "-1.5e3", " 0 "}[r.IntN(4)])
	case 6, 7:
		brackets := []string{"[]", "{}"}[kind-6]
		out.WriteByte(brackets[0])
		for i := range r.IntN(6) {
			if i > 0 {
				out.WriteString([]string{",", " ,\n"}[r.IntN(2)])
			}
			if kind == 7 {
				out.WriteString(word() + []string{":", " : "}[r.IntN(2)])
			}
			document(r, out, depth-1)
		}
		out.WriteByte(brackets[1])
	default:
		out.WriteString(word())
	}
}

// The same on documents that are JSON, which few of a fuzzer's are.
func TestRedactAsReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var text strings.Builder
		text.WriteString(`{"Labels":`)
		document(r, &text, 6)
		text.WriteString(`,"Spec":`)
		document(r, &text, 6)
		text.WriteString("}")
		show := Show{r.IntN(4) == 0, r.IntN(4) == 0, r.IntN(4) == 0, r.IntN(4) == 0}
		want, ok := reference(text.String(), show)
		if !ok {
			t.Fatalf("no JSON: %s", &text)
		}
		for _, n := range []int{1, 1 + r.IntN(30), text.Len()} {
			got, err := io.ReadAll(newRewriter(io.NopCloser(&pieces{text.String(), n}), show, "configs", func(int) {}))
			if seen, _ := reference(string(got), Show{true, true, true, true}); err != nil || seen != want {
				t.Fatalf("%s\nin pieces of %d: %v\ngot  %s\nwant %s", &text, n, err, seen, want)
			}
		}
	}
}

type pieces struct {
	s    string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.s == "" {
		return 0, io.EOF
	}
	n := copy(b, p.s[:min(p.size, len(p.s))])
	p.s = p.s[n:]
	return n, nil
}

// reference redacts by tokens, keeping order and repeated keys.
func reference(in string, show Show) (string, bool) {
	d := json.NewDecoder(strings.NewReader(in))
	d.UseNumber()
	var out bytes.Buffer
	for {
		err := referenceValue(d, &out, show, plain, "", 0)
		if errors.Is(err, io.EOF) {
			return out.String(), true
		}
		if err != nil {
			return "", false
		}
		out.WriteByte(' ')
	}
}

func referenceValue(d *json.Decoder, out *bytes.Buffer, show Show, outer place, key string, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case string:
		if depth > 0 {
			token = show.of(outer, []byte(key)).replace(key, token, true)
		}
		out.Write(quote(token))
		return nil
	case json.Delim:
		if depth == maxDepth {
			return errForm
		}
		inner := show.inside(outer, []byte(key), "configs")
		out.WriteString(token.String())
		for d.More() {
			name := ""
			if token == '{' {
				k, err := d.Token()
				if err != nil {
					return noEOF(err)
				}
				name = k.(string)
				out.Write(quote(name))
			}
			if err := referenceValue(d, out, show, inner, name, depth+1); err != nil {
				return noEOF(err)
			}
			out.WriteByte(' ')
		}
		end, err := d.Token()
		out.WriteString(fmt.Sprint(end))
		return noEOF(err)
	}
	out.WriteString(fmt.Sprint(token))
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func BenchmarkRedact(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			var list []map[string]any
			for i := range n {
				labels := map[string]string{}
				var env []string
				for j := range 15 {
					labels[fmt.Sprintf("caddy_%d.reverse_proxy", j)] = "{{upstreams 8080}}"
					env = append(env, fmt.Sprintf("NAME_%d=value %d", j, i))
				}
				list = append(list, map[string]any{"ID": fmt.Sprint(i), "Spec": map[string]any{"Labels": labels, "Env": env}})
			}
			text, err := json.Marshal(list)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				w := newRewriter(io.NopCloser(bytes.NewReader(text)), Show{}, "services", func(int) {})
				if _, err := io.Copy(io.Discard, w); err != nil {
					b.Fatal(err)
				}
				w.Close()
			}
		})
	}
}
