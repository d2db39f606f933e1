package secrets

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
)

const lockFile = `# secrets.lock: written by skep, reference -> item version
references:
  op://homelab/my item/a section/the field?attribute=otp&ssh-format=openssh: 18446744
  op://homelab/postgres-shared/password: 3
  op://homelab/postgres-shared/username: 3
  op://homelab/sonarr/key: {version: 1, item: "nwcr7lslhkegcmoqv6dnhe6dfe"}
  op://other/a/b: {version: 2, item: "other/a \"quoted\" item: # 1"}
`

func TestLockRoundTrip(t *testing.T) {
	lock, err := ParseLock([]byte(lockFile))
	if err != nil {
		t.Fatal(err)
	}
	want := Lock{
		mustReference(t, "op://homelab/postgres-shared/password"):                                     {Version: "3"},
		mustReference(t, "op://homelab/my item/a section/the field?attribute=otp&ssh-format=openssh"): {Version: "18446744"},
		mustReference(t, "op://homelab/postgres-shared/username"):                                     {Version: "3"},
		mustReference(t, "op://homelab/sonarr/key"):                                                   {ID: "nwcr7lslhkegcmoqv6dnhe6dfe", Version: "1"},
		mustReference(t, "op://other/a/b"):                                                            {ID: `other/a "quoted" item: # 1`, Version: "2"},
	}
	if !maps.Equal(lock, want) {
		t.Errorf("ParseLock = %v, want %v", lock, want)
	}
	for range 20 { // maps are walked from a place of chance
		if got := string(lock.Marshal()); got != lockFile {
			t.Fatalf("Marshal() = %s", got)
		}
	}
}

// A lock travels as JSON too; an older skep says versions alone.
func TestLockAsJSON(t *testing.T) {
	lock, err := ParseLock([]byte(lockFile))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(lock)
	if err != nil {
		t.Fatal(err)
	}
	var again Lock
	if err := json.Unmarshal(text, &again); err != nil || !maps.Equal(again, lock) {
		t.Errorf("%s is read as %v, %v", text, again, err)
	}
	r := mustReference(t, "op://v/i/f")
	if err := json.Unmarshal([]byte(`{"op://v/i/f": "7"}`), &again); err != nil || again[r] != (Item{Version: "7"}) {
		t.Errorf("a version alone is read as %v, %v", again[r], err)
	}
}

func TestEmptyLock(t *testing.T) {
	for _, in := range []string{"", "# nothing yet\n", "references:\n", "references: {}\n", string(Lock(nil).Marshal())} {
		if lock, err := ParseLock([]byte(in)); err != nil || lock == nil || len(lock) != 0 {
			t.Errorf("ParseLock(%q) = %v, %v", in, lock, err)
		}
	}
}

func TestLockErrors(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []string
	}{
		{"refs:\n  op://v/i/f: 1\n", []string{`line 1: unknown key "refs"`}},
		{"# c\nreferences:\n  op://v/i/f: 0\n  op://v/i/g: -1\n  op://v/i: 1\n", []string{"line 3: the version of op://v/i/f is 0", "line 4: ", "is -1", "line 5: ", "no field"}},
		{"references:\n  op://v/i/f: three\n", []string{"line 2: the version of op://v/i/f is three: it must be a positive integer"}},
		{"references:\n  op://v/i/f: 0x3\n", []string{"line 2: "}},
		{"references:\n  op://v/i/f: 007\n", []string{"line 2: "}},
		{"references:\n  op://v/i/f: \"3\"\n", []string{"line 2: "}},
		{"references:\n  op://v/i/f: {a: 1}\n", []string{`line 2: unknown key "a"`}},
		{"references:\n  op://v/i/f: {item: \"x\"}\n", []string{"line 2: op://v/i/f has no version"}},
		{"references:\n  op://v/i/f: {version: x}\n", []string{"line 2: the version of op://v/i/f is x"}},
		{"references:\n  op://v/i/f: {version: 1, item: 2}\n", []string{"line 2: the item of op://v/i/f is 2"}},
		{"references:\n  op://v/i/f:\n    version: 1\n    item: \"a\\u0007\"\n", []string{"line 4: the item of op://v/i/f"}},
		{"references:\n  op://v/i/f:\n", []string{"line 2: "}},
		{"references:\n  op://v/i/f: 1\n  op://V/i/f: 2\n", []string{"line 3: op://v/i/f is given twice, line 2 has it too"}},
		{"references:\n  op://v/i/f: 1\n  op://v/i/f: 2\n", []string{"line 3: "}},
		{"references: [1]\n", []string{"line 1: a mapping belongs here"}},
		{"- 1\n", []string{"line 1: a mapping belongs here"}},
		{"references: {}\n---\nreferences: {}\n", []string{"line 3: a lock file is one YAML document"}},
		{"references:\n\t- x: [\n", []string{"line 2: "}},
	} {
		lock, err := ParseLock([]byte(test.in))
		var le *LockError
		if lock != nil || !errors.As(err, &le) || le.Column == 0 {
			t.Errorf("ParseLock(%q) = %v, %v", test.in, lock, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("ParseLock(%q): %v; want %q", test.in, err, want)
			}
		}
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte(lockFile))
	f.Add([]byte("references: {op://v/i/f: 1}\n"))
	f.Add([]byte("references:\n  op://v/i/f:\n    item: a b\n    version: 1\n"))
	f.Add([]byte("a: &a 1\nb: *a\n? x\n: - y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lock, err := ParseLock(data)
		if err != nil {
			return
		}
		again, err := ParseLock(lock.Marshal())
		if err != nil || !maps.Equal(again, lock) {
			t.Errorf("%q is %v, written and read %v, %v", data, lock, again, err)
		}
	})
}
