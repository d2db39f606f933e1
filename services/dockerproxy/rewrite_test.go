package dockerproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	out, err := io.ReadAll(newRewriter(io.NopCloser(from), show, kind, func() {}))
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
			in:   `[{"CreatedBy":"RUN make"},{"CreatedBy":"ENV A=1"},{"CreatedBy":"|1 TOKEN=x /bin/sh -c make"}]`,
			want: `[{"CreatedBy":"RUN make"},{"CreatedBy":"[redacted]"},{"CreatedBy":"[redacted]"}]`},
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
	for _, in := range []string{`{"Env":["A=1"`, `{"Env":["A=1`, `]`, `{]`, `[}`, `a,b`, `{{`, `:`, `{"a":1}}`, `{"Env\q":1}`, strings.Repeat("[", maxDepth+1)} {
		if got, err := redact(in, Show{}, "containers", 0); err == nil || strings.Contains(got, "A=1") {
			t.Errorf("%.20s: got %q, %v; want an error", in, got, err)
		}
	}
}

// What a list is long makes no difference to what is kept of it.
func TestRedactKeepsLittle(t *testing.T) {
	entry := `{"Labels":{"token":"` + strings.Repeat("x", 500) + `"},"Env":["A=1"]},`
	from := io.MultiReader(strings.NewReader("["), io.LimitReader(&forever{entry: entry}, int64(len(entry))*20_000), strings.NewReader("1]"))
	w := newRewriter(io.NopCloser(from), Show{}, "containers", func() {})
	if _, err := io.Copy(io.Discard, w); err != nil {
		t.Fatal(err)
	}
	if kept := cap(w.pending) + cap(w.in) + cap(w.text.raw); kept > 128<<10 {
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
	}
	f.Fuzz(func(t *testing.T, in string, size, shown uint8) {
		show := Show{shown&1 > 0, shown&2 > 0, shown&4 > 0, shown&8 > 0}
		want, ok := reference(in, show)
		w := newRewriter(io.NopCloser(&pieces{in, int(size)%17 + 1}), show, "configs", func() {})
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
			token = show.of(outer, key).replace(key, token, true)
		}
		out.Write(quote(token))
		return nil
	case json.Delim:
		if depth == maxDepth {
			return errForm
		}
		inner := show.inside(outer, key, "configs")
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
				w := newRewriter(io.NopCloser(bytes.NewReader(text)), Show{}, "services", func() {})
				if _, err := io.Copy(io.Discard, w); err != nil {
					b.Fatal(err)
				}
				w.Close()
			}
		})
	}
}
