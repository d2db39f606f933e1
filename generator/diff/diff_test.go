package diff_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"skep/generator/diff"
	"skep/generator/problem"
)

func changes(path string, isStack bool, before, after string) []diff.Change {
	content := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	return diff.Files(path, isStack, content(before), content(after))
}

func text(t *testing.T, list []diff.Change) string {
	t.Helper()
	var out bytes.Buffer
	if err := diff.WriteText(&out, problem.Paint{}, list); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestStack(t *testing.T) {
	const head = "version: \"3.8\"\nservices:\n  web:\n    image: web:1\n"
	for _, c := range []struct{ name, before, after, want string }{
		{"a comment", "# from a\n" + head, "# from b\n" + head, "~ stack web (comments)\n"},
		{"new", "", head, "+ stack web (web)\n"},
		{"gone", head, "", "- stack web (web)\n"},
		{"a value", head, strings.ReplaceAll(head, "web:1", "web:2"), "stack web\n  service web\n    ~ image: web:1 -> web:2\n"},
		{"the order of keys", "services: {web: {image: a, user: b}}", "services: {web: {user: b, image: a}}", "~ stack web (comments)\n"},
		{"a service", head, head + "  db:\n    image: db:1\n", "stack web\n  + service db (db:1)\n"},
		{"a service gone", head + "  db:\n    image: db:1\n", head, "stack web\n  - service db (db:1)\n"},
		{"a key with a dot", head + "    deploy: {labels: {caddy.tls: internal}}", head + "    deploy: {labels: {caddy.tls: \"\"}}",
			"stack web\n  service web\n    ~ deploy.labels[caddy.tls]: internal -> \"\"\n"},
		{"ports by target", head + "    ports: [{target: 80, published: 80}, {target: 81, published: 81}]", head + "    ports: [{target: 79}, {target: 80, published: 8080}, {target: 81, published: 81}]",
			"stack web\n  service web\n    + ports[79]: {\"target\":79}\n    ~ ports[80].published: 80 -> 8080\n"},
		{"ports by target and protocol", head + "    ports: [{target: 53, protocol: udp}, {target: 53, protocol: tcp}]", head + "    ports: [{target: 53, protocol: tcp}]",
			"stack web\n  service web\n    - ports[53 udp]: {\"protocol\":\"udp\",\"target\":53}\n"},
		{"a word of a list", head + "    cap_drop: [A, B]", head + "    cap_drop: [B, C]", "stack web\n  service web\n    - cap_drop[A]\n    + cap_drop[C]\n"},
		{"another order", head + "    dns: [1.1.1.1, 8.8.8.8]", head + "    dns: [8.8.8.8, 1.1.1.1]",
			"stack web\n  service web\n    ~ dns: [\"1.1.1.1\",\"8.8.8.8\"] -> [\"8.8.8.8\",\"1.1.1.1\"]\n"},
		{"a command", head + "    command: [a, b]", head + "    command: [a, c]", "stack web\n  service web\n    ~ command: [\"a\",\"b\"] -> [\"a\",\"c\"]\n"},
		{"a network", head + "networks: {default: {internal: true}}", head + "networks: {default: {internal: false}, x: {}}",
			"stack web\n  network default\n    ~ internal: true -> false\n  + network x\n"},
		{"a kind", head + "    user: a", head + "    user: [a]", "stack web\n  service web\n    ~ user: a -> [\"a\"]\n"},
		{"the file's version", head, strings.Replace(head, "3.8", "3.12", 1), "stack web\n  ~ version: 3.8 -> 3.12\n"},
		{"broken on disk", "services: {", head, "~ web.yaml (+4 -1 lines)\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := text(t, changes("web.yaml", true, c.before, c.after)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestOtherFiles(t *testing.T) {
	const record = "zones: [{name: in, records: [{name: a.x, type: A, content: 1.2.3.4}, {name: a.x, type: AAAA, content: \"::1\"}]}]"
	for _, c := range []struct{ name, path, before, after, want string }{
		{"a record", "cluster/dns.yaml", record, strings.Replace(record, "1.2.3.4", "1.2.3.5", 1),
			"cluster/dns.yaml\n  ~ zones[in].records[a.x A].content: 1.2.3.4 -> 1.2.3.5\n"},
		{"a text", "deploy.sh", "a\nb\nc\n", "a\nc\nd\ne\n", "~ deploy.sh (+2 -1 lines)\n"},
		{"a new text", "deploy.sh", "", "a\n", "+ deploy.sh\n"},
		{"a config that is no YAML", "web/app.yaml", "{{ if }}: [", "{{ end }}: [", "~ web/app.yaml (+1 -1 lines)\n"},
		{"tags", "cluster/authentik.yaml", "a: !Find [x, [y, 1]]", "a: !Find [x, [y, 2]]", "cluster/authentik.yaml\n  ~ a: [\"x\",[\"y\",1]] -> [\"x\",[\"y\",2]]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := text(t, changes(c.path, false, c.before, c.after)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// What a file says must neither drive the terminal nor break JSON.
func TestAnyValueCanBeShown(t *testing.T) {
	list := changes("x/y.yaml", false, "a: \"\\e]0;owned\\a\"\n1: {2: 3}", "a: "+strings.Repeat("long", 100)+"\n1: {2: 4}")
	got := text(t, list)
	if strings.ContainsAny(got, "\x1b\a") || len(got) > 400 {
		t.Errorf("got %q", got)
	}
	if _, err := json.Marshal(list); err != nil {
		t.Error(err)
	}
}

func FuzzFiles(f *testing.F) {
	f.Add("services: {a: {image: b}}", "services: {a: {image: c, ports: [{target: 1}]}}")
	f.Add("services: [1]", "services: {a: [x]}")
	f.Add("a: &a [*a]", "? [a]\n: b")
	f.Add("1: {2: 3}", "a: !x [y]")
	f.Fuzz(func(t *testing.T, before, after string) {
		list := diff.Files("web.yaml", true, []byte(before), []byte(after))
		if len(list) == 0 && before != after {
			t.Errorf("no change between %q and %q", before, after)
		}
		var out bytes.Buffer
		if err := diff.WriteText(&out, problem.Paint{}, list); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(list); err != nil {
			t.Errorf("not JSON: %s", err)
		}
	})
}
