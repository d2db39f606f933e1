package label

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"

	"github.com/Masterminds/sprig/v3"
)

// sprigFunctions is what caddy-docker-proxy offers beside its own four.
var sprigFunctions = sync.OnceValue(sprig.TxtFuncMap)

// Functions are the template functions of caddy-docker-proxy, with "upstreams"
// for these targets.
func Functions(targets []string) template.FuncMap {
	all := maps.Clone(sprigFunctions())
	all["http"] = func() string { return "http" }
	all["https"] = func() string { return "https" }
	all["h2c"] = func() string { return "h2c" }
	all["upstreams"] = func(options ...any) string {
		out := make([]string, 0, len(targets))
		for _, target := range targets {
			out = append(out, upstream(target, options))
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	return all
}

// StandIns are the same for where the ingress's machine is not: what would read
// it gives Caddy's placeholder or a documentation address (RFC 5737) instead.
func StandIns(targets []string) template.FuncMap {
	all := Functions(targets)
	placeholder := func(name string) string { return "{env." + name + "}" }
	all["env"] = placeholder
	all["expandenv"] = func(text string) string { return os.Expand(text, placeholder) }
	all["getHostByName"] = func(string) string { return "192.0.2.1" }
	return all
}

// upstream adds a protocol (a string) and a port (a number) to an address.
func upstream(target string, options []any) string {
	for _, option := range options {
		switch option := option.(type) {
		case string:
			target = option + "://" + target
		case int:
			target += ":" + strconv.Itoa(option)
		}
	}
	return target
}

// costly are functions that call out or compute for long.
var costly = []string{
	"getHostByName", "derivePassword", "htpasswd", "bcrypt", "genPrivateKey", "genCA", "genCAWithKey",
	"genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey", "buildCustomCert",
}

// A template of a service that is not trusted makes no more than this. Without
// a bound, doubling a string forty times takes the machine's memory.
const (
	maxTemplate = 8 << 10
	maxText     = 8 << 10
	maxItems    = 4 << 10
)

var errForbidden = errors.New("the ingress's policy does not open it")

// forbidden is a template's request for something that the policy refuses.
type forbidden struct {
	kind Permission
	name string
}

func (f forbidden) Error() string { return fmt.Sprintf("%s:%s: %v", f.kind, f.name, errForbidden) }

func (f forbidden) Is(target error) bool { return target == errForbidden }

// restricted are those of all functions that a service that is not trusted
// uses, within limits.
func restricted(all template.FuncMap, p Policy, uses func(string) bool) template.FuncMap {
	read := all["env"].(func(string) string)
	env := func(name string) (string, error) {
		if !p.Allows(Env, name) {
			return "", forbidden{Env, name}
		}
		return read(name), nil
	}
	all["env"] = env
	all["expandenv"] = func(text string) (string, error) {
		var failed error
		out := os.Expand(text, func(name string) string {
			value, err := env(name)
			failed = errors.Join(failed, err)
			return value
		})
		return out, failed
	}
	for _, name := range costly {
		if !p.Allows(Function, name) {
			all[name] = func(...any) (string, error) { return "", forbidden{Function, name} }
		}
	}
	// These make much of little before their result can be looked at.
	if uses("repeat") {
		all["repeat"] = limitCount(all["repeat"], maxText)
	}
	for _, name := range []string{"until", "untilStep", "seq", "indent", "nindent", "randBytes", "randAlpha", "randAlphaNum", "randNumeric", "randAscii", "wrap", "wrapWith"} {
		if uses(name) {
			all[name] = limitCount(all[name], maxItems)
		}
	}
	all["print"], all["println"] = fmt.Sprint, fmt.Sprintln
	all["html"], all["js"], all["urlquery"] = template.HTMLEscaper, template.JSEscaper, urlQuery
	all["printf"] = func(format string, args ...any) (string, error) {
		if widths.MatchString(format) {
			return "", errors.New("printf: a width of more than three digits")
		}
		return fmt.Sprintf(format, args...), nil
	}
	maps.DeleteFunc(all, func(name string, _ any) bool { return !uses(name) })
	for name, f := range all {
		all[name] = limitResult(name, f)
	}
	return all
}

func urlQuery(args ...any) string { return url.QueryEscape(fmt.Sprint(args...)) }

// limitCount refuses numbers beyond a limit among a function's arguments.
func limitCount(f any, limit int64) any {
	return wrap(f, func(call func() []reflect.Value, args []reflect.Value) ([]reflect.Value, error) {
		for _, a := range args {
			for _, v := range flatten(a) {
				if v.CanInt() && (v.Int() > limit || v.Int() < -limit) {
					return nil, fmt.Errorf("%d is more than %d", v.Int(), limit)
				}
			}
		}
		return call(), nil
	})
}

func flatten(v reflect.Value) []reflect.Value {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Slice {
		return []reflect.Value{v}
	}
	var out []reflect.Value
	for i := range v.Len() {
		out = append(out, flatten(v.Index(i))...)
	}
	return out
}

// limitResult refuses a long result.
func limitResult(name string, f any) any {
	return wrap(f, func(call func() []reflect.Value, _ []reflect.Value) ([]reflect.Value, error) {
		out := call()
		v := out[0]
		if v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		switch v.Kind() {
		case reflect.String:
			if v.Len() > maxText {
				return nil, fmt.Errorf("%s: the result is longer than %d bytes", name, maxText)
			}
		case reflect.Slice, reflect.Map:
			if v.Len() > maxItems {
				return nil, fmt.Errorf("%s: the result has more than %d items", name, maxItems)
			}
		}
		return out, nil
	})
}

var errorType = reflect.TypeFor[error]()

// wrap puts a function of the same arguments around f, which may also fail.
func wrap(f any, around func(call func() []reflect.Value, args []reflect.Value) ([]reflect.Value, error)) any {
	value, kind := reflect.ValueOf(f), reflect.TypeOf(f)
	in := make([]reflect.Type, kind.NumIn())
	for i := range in {
		in[i] = kind.In(i)
	}
	result := kind.Out(0)
	outer := reflect.FuncOf(in, []reflect.Type{result, errorType}, kind.IsVariadic())
	return reflect.MakeFunc(outer, func(args []reflect.Value) []reflect.Value {
		out, err := around(func() []reflect.Value {
			if kind.IsVariadic() {
				return value.CallSlice(args)
			}
			return value.Call(args)
		}, args)
		if err != nil {
			return []reflect.Value{reflect.Zero(result), reflect.ValueOf(&err).Elem()}
		}
		if len(out) == 1 {
			out = append(out, reflect.Zero(errorType))
		}
		return out
	}).Interface()
}

// checkTemplate refuses what a template can loop with.
func checkTemplate(text string, p Policy) error {
	if len(text) > maxTemplate {
		return fmt.Errorf("a template is longer than %d bytes", maxTemplate)
	}
	tree := parse.New("label")
	tree.Mode = parse.SkipFuncCheck
	trees := map[string]*parse.Tree{}
	if _, err := tree.Parse(text, "", "", trees); err != nil {
		return nil // the one who runs it says so better
	}
	for _, t := range trees {
		if err := checkNode(t.Root, p); err != nil {
			return err
		}
	}
	return checkNode(tree.Root, p)
}

func checkNode(node parse.Node, p Policy) error {
	switch node := node.(type) {
	case *parse.ListNode:
		if node == nil {
			return nil
		}
		for _, child := range node.Nodes {
			if err := checkNode(child, p); err != nil {
				return err
			}
		}
	case *parse.IfNode:
		return errors.Join(checkNode(node.List, p), checkNode(node.ElseList, p))
	case *parse.WithNode:
		return errors.Join(checkNode(node.List, p), checkNode(node.ElseList, p))
	case *parse.RangeNode:
		if !p.Allows(Function, "range") {
			return forbidden{Function, "range"}
		}
		return errors.Join(checkNode(node.List, p), checkNode(node.ElseList, p))
	case *parse.TemplateNode:
		if !p.Allows(Function, "template") {
			return forbidden{Function, "template"}
		}
	}
	return nil
}
