package spec

import (
	"encoding"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"skep/generator/problem"
	"skep/generator/stack"
)

// stringList is a list of strings; one string stands for a list of one.
type stringList []string

func (stringList) shorthand(v any) any {
	if s, ok := v.(string); ok {
		return inPlace{s}
	}
	return v
}

// inPlace is a list of one that stands in the file without the list: its
// element's position is the value's own.
type inPlace struct{ only any }

// duration is a Go duration: 30s, 1m30s.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s or 1m30s", text)
	}
	if v < 0 {
		return fmt.Errorf("%q is negative", text)
	}
	*d = duration(v)
	return nil
}

// byteSize is a size as Compose writes them: 512M, 10MB, 1GiB; powers of 1024.
type byteSize int64

func (b *byteSize) UnmarshalText(text []byte) error {
	v, err := units.RAMInBytes(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a size such as 10MB or 1GiB", text)
	}
	*b = byteSize(v)
	return nil
}

// shorthander is a type whose short forms are turned into its long one.
type shorthander interface{ shorthand(any) any }

// decoder fills the file format's types from plain values, strictly, and
// collects every problem with its position.
type decoder struct {
	positions stack.Positions
	problems  problem.List
}

func (d *decoder) fail(rule problem.Rule, path []string, format string, args ...any) *problem.Problem {
	d.problems = append(d.problems, rule.At(d.positions.At(path...), format, args...))
	return &d.problems[len(d.problems)-1]
}

// decode fills into, a pointer, from v, which stands at path.
func (d *decoder) decode(v any, into any, path ...string) {
	d.value(v, reflect.ValueOf(into).Elem(), path)
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	shorthanderType = reflect.TypeFor[shorthander]()
)

func (d *decoder) value(v any, into reflect.Value, path []string) {
	t := into.Type()
	if t.Kind() == reflect.Pointer {
		if v == nil {
			return
		}
		into.Set(reflect.New(t.Elem()))
		d.value(v, into.Elem(), path)
		return
	}
	if t.Implements(shorthanderType) {
		v = reflect.Zero(t).Interface().(shorthander).shorthand(v)
	}
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		d.text(v, into, path)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		d.mapping(v, into, path)
	case reflect.Slice:
		if one, ok := v.(inPlace); ok {
			into.Set(reflect.MakeSlice(t, 1, 1))
			d.value(one.only, into.Index(0), path)
			return
		}
		list, ok := v.([]any)
		if !ok {
			d.wrongType(path, listForms(t), v)
			return
		}
		into.Set(reflect.MakeSlice(t, len(list), len(list)))
		for i, item := range list {
			d.value(item, into.Index(i), append(path[:len(path):len(path)], itoa(i)))
		}
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			d.wrongType(path, "a mapping", v)
			return
		}
		into.Set(reflect.MakeMapWithSize(t, len(m)))
		for _, k := range slices.Sorted(maps.Keys(m)) {
			item := reflect.New(t.Elem()).Elem()
			d.value(m[k], item, append(path[:len(path):len(path)], k))
			into.SetMapIndex(reflect.ValueOf(k).Convert(t.Key()), item)
		}
	default:
		d.scalar(v, into, path)
	}
}

// listForms says how a list may be written: short forms stand for a list of one.
func listForms(t reflect.Type) string {
	switch {
	case !t.Implements(shorthanderType):
		return "a list"
	case t.Elem().Kind() == reflect.Struct:
		return "a mapping or a list of mappings"
	}
	return "a string or a list of strings"
}

func (d *decoder) text(v any, into reflect.Value, path []string) {
	switch v.(type) {
	case string, int, int64, uint64, float64:
	default:
		d.wrongType(path, "a string", v)
		return
	}
	if err := into.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(fmt.Sprint(v))); err != nil {
		d.fail(ruleValue, path, "%s", err)
	}
}

func (d *decoder) scalar(v any, into reflect.Value, path []string) {
	switch into.Kind() {
	case reflect.String:
		switch v := v.(type) {
		case string:
			into.SetString(v)
		case int, int64, uint64, float64, bool:
			into.SetString(fmt.Sprint(v))
		default:
			d.wrongType(path, "a string", v)
		}
	case reflect.Bool:
		switch v := v.(type) {
		case bool:
			into.SetBool(v)
		case string: // an interpolated variable is a string
			b, err := strconv.ParseBool(v)
			if err != nil {
				d.wrongType(path, "true or false", v)
				return
			}
			into.SetBool(b)
		default:
			d.wrongType(path, "true or false", v)
		}
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint64:
		n, ok := number(v).(int)
		if !ok {
			d.wrongType(path, "a whole number", v)
			return
		}
		if into.CanInt() {
			into.SetInt(int64(n))
			return
		}
		limit := uint64(math.MaxUint16)
		if into.Kind() == reflect.Uint64 {
			limit = math.MaxInt64
		}
		if n < 0 || uint64(n) > limit {
			d.fail(ruleValue, path, "%s must be between 0 and %d, not %d", describe(path), limit, n)
			return
		}
		into.SetUint(uint64(n))
	default: // map[string]any and the like
		if v != nil {
			into.Set(reflect.ValueOf(v))
		}
	}
}

// number reads a whole number that may have come as text, from a variable.
func number(v any) any {
	switch v := v.(type) {
	case int64:
		return int(v)
	case string:
		if n, err := strconv.Atoi(v); err == nil {
			return n
		}
	}
	return v
}

func (d *decoder) mapping(v any, into reflect.Value, path []string) {
	if v == nil {
		v = map[string]any{}
	}
	m, ok := v.(map[string]any)
	if !ok {
		d.wrongType(path, "a mapping", v)
		return
	}
	fields := fieldsOf(into.Type())
	meant := map[string]bool{} // keys that a misspelt one stands for
	for _, k := range slices.Sorted(maps.Keys(m)) {
		keyPath := append(path[:len(path):len(path)], k)
		f, ok := fields.byKey[k]
		if !ok {
			if strings.HasPrefix(k, "x-") {
				continue
			}
			p := d.fail(ruleKey, keyPath, "%s has no key %q", describe(path), k)
			if near, ok := nearest(k, fields.keys); ok {
				meant[near] = true
				*p = p.WithRemedy("did you mean %q?", near)
			} else {
				*p = p.WithRemedy("its keys are %s", strings.Join(fields.keys, ", "))
			}
			continue
		}
		d.value(m[k], into.Field(f.index), keyPath)
		if len(f.enum) > 0 && into.Field(f.index).Kind() == reflect.String {
			if s := into.Field(f.index).String(); s != "" && !slices.Contains(f.enum, s) {
				p := d.fail(ruleValue, keyPath, "%q is not one of %s", s, strings.Join(f.enum, ", "))
				if near, ok := nearest(s, f.enum); ok {
					*p = p.WithRemedy("did you mean %q?", near)
				}
			}
		}
	}
	for _, k := range fields.keys {
		if v, ok := m[k]; fields.byKey[k].required && !meant[k] && (!ok || v == nil || v == "") {
			d.fail(ruleValue, path, "%s needs %q", describe(path), k)
			d.problems[len(d.problems)-1].Remedy = "for example `" + k + ": " + fields.byKey[k].example + "`"
		}
	}
}

func (d *decoder) wrongType(path []string, want string, got any) {
	d.fail(ruleValue, path, "%s must be %s, not %s", describe(path), want, kindOf(got))
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "empty"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case string:
		if len(v) > 40 {
			v = v[:40] + "..."
		}
		return strconv.Quote(v)
	default:
		return fmt.Sprintf("%v", v)
	}
}

// describe names a place for a message: its last key that is not an index.
func describe(path []string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if _, err := strconv.Atoi(path[i]); err != nil {
			return path[i]
		}
	}
	return "the file"
}

func itoa(i int) string { return strconv.Itoa(i) }
