package secrets

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	goccy "github.com/goccy/go-yaml"
	yaml "go.yaml.in/yaml/v3"
)

const planted = "hunter2-planted"

// holder has a value in each kind of place.
type holder struct {
	Exported Value
	hidden   Value
	List     []Value
	Map      map[string]Value
	Pointer  *Value
	Any      any
}

func newHolder() holder {
	v := NewValue([]byte(planted))
	return holder{v, v, []Value{v}, map[string]Value{"key": v}, &v, v}
}

// leaks reports whether text gives the planted value away, as text, in hex or
// as a list of numbers.
func leaks(text string) bool {
	numbers := strings.Trim(fmt.Sprint([]byte(planted)), "[]")
	hexadecimal := strings.Trim(fmt.Sprintf("%#v", []byte(planted)), "[]byte{}")
	for _, form := range []string{planted, fmt.Sprintf("%x", planted), fmt.Sprintf("%X", planted), numbers, hexadecimal} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

func TestValuePrintsNothing(t *testing.T) {
	h := newHolder()
	subjects := []any{h, &h, h.Exported, h.Pointer, h.List, h.Map, []any{h.Exported}, struct{ v any }{h.Exported}}
	for _, subject := range subjects {
		for _, flags := range []string{"", "+", "#", "-", " ", "0", "20", ".3", "+#"} {
			for _, verb := range "vTtbcdoOqxXUeEfFgGspw" {
				format := "%" + flags + string(verb)
				if got := fmt.Sprintf(format, subject); leaks(got) {
					t.Errorf("%s of %T: %s", format, subject, got)
				}
			}
		}
	}
	if got := fmt.Sprintf("%v %s %q %x %d %#v", h.Exported, h.Exported, h.Exported, h.Exported, h.Exported, h.Exported); got != strings.TrimSpace(strings.Repeat(redacted+" ", 6)) {
		t.Errorf("got %s", got)
	}
	if got := fmt.Errorf("use %v: %w", h.Exported, errors.New("no")).Error(); got != "use [redacted]: no" {
		t.Errorf("error: %s", got)
	}
}

func TestValueEncodesNothing(t *testing.T) {
	h := newHolder()
	encodings := map[string]func() ([]byte, error){
		"json":  func() ([]byte, error) { return json.Marshal(h) },
		"goccy": func() ([]byte, error) { return goccy.Marshal(h) },
		"yaml":  func() ([]byte, error) { return yaml.Marshal(h) },
		"xml":   func() ([]byte, error) { return xml.Marshal(h.List) },
		"gob": func() ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(h.Exported)
			return b.Bytes(), err
		},
		"slog text": func() ([]byte, error) {
			var b bytes.Buffer
			slog.New(slog.NewTextHandler(&b, nil)).Info("x", "value", h.Exported, "holder", h, "list", h.List)
			return b.Bytes(), nil
		},
		"slog json": func() ([]byte, error) {
			var b bytes.Buffer
			slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "value", h.Exported, "holder", h, "map", h.Map)
			return b.Bytes(), nil
		},
	}
	for name, encode := range encodings {
		out, err := encode()
		if err != nil || leaks(string(out)) || !strings.Contains(string(out), redacted) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// A panic prints its argument without fmt, and ends the process: a process of
// its own panics with each kind.
func TestValuePanicsWithNothing(t *testing.T) {
	if kind := os.Getenv("SKEP_TEST_PANIC"); kind != "" {
		h := newHolder()
		switch kind {
		case "value":
			panic(h.Exported)
		case "pointer":
			panic(h.Pointer)
		case "struct":
			panic(h)
		case "error":
			panic(fmt.Errorf("with %v", h))
		}
	}
	for _, kind := range []string{"value", "pointer", "struct", "error"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestValuePanicsWithNothing$")
		cmd.Env = append(os.Environ(), "SKEP_TEST_PANIC="+kind, "GOTRACEBACK=all")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "panic: ") || leaks(string(out)) {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
}

func TestValueWipe(t *testing.T) {
	b := []byte(planted)
	v := NewValue(b)
	clone, err := v.Clone()
	if err != nil {
		t.Fatal(err)
	}
	copied := v
	copied.Wipe()
	if !bytes.Equal(b, make([]byte, len(planted))) {
		t.Errorf("the content is still there: %q", b)
	}
	if got, err := v.Bytes(); got != nil || !errors.Is(err, ErrWiped) {
		t.Errorf("a wiped value gives %q, %v", got, err)
	}
	if _, err := v.Clone(); !errors.Is(err, ErrWiped) {
		t.Errorf("a wiped value is cloned: %v", err)
	}
	v.Wipe() // again is fine
	if got, err := clone.Bytes(); string(got) != planted || err != nil {
		t.Errorf("the clone is %q, %v", got, err)
	}
	var zero Value
	zero.Wipe()
	if got, err := zero.Bytes(); got != nil || err != nil || zero.Len() != 0 {
		t.Errorf("the zero value is %q, %v", got, err)
	}
}

func TestTemplateFill(t *testing.T) {
	template, err := ParseTemplate("postgres://{{ op://v/i/user }}:op://v/i/password@db")
	if err != nil {
		t.Fatal(err)
	}
	value, err := template.Fill(func(r Reference) (Value, error) { return NewValue([]byte("<" + r.Field + ">")), nil })
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := value.Bytes(); string(got) != "postgres://<user>:<password>@db" {
		t.Errorf("got %s", got)
	}
	_, err = template.Fill(func(Reference) (Value, error) { return Value{}, ErrUnavailable })
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "op://v/i/user") {
		t.Errorf("got %v", err)
	}
}
