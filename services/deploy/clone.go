package deploy

import (
	"reflect"

	"github.com/moby/moby/api/types/swarm"
)

// clone copies a spec with all that it refers to. It is called for every
// service of a plan; by way of JSON it was half of a plan's time.
func clone(spec swarm.ServiceSpec) swarm.ServiceSpec {
	unshare(reflect.ValueOf(&spec).Elem())
	return spec
}

// unshare gives v copies of the pointers, lists and maps below it. What types
// keep in fields of their own stays, as the address in a netip.Addr.
func unshare(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			next := reflect.New(v.Type().Elem())
			next.Elem().Set(v.Elem())
			unshare(next.Elem())
			v.Set(next)
		}
	case reflect.Slice:
		if !v.IsNil() {
			next := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(next, v)
			for i := range next.Len() {
				unshare(next.Index(i))
			}
			v.Set(next)
		}
	case reflect.Map:
		if !v.IsNil() {
			next := reflect.MakeMapWithSize(v.Type(), v.Len())
			for entries := v.MapRange(); entries.Next(); {
				item := reflect.New(v.Type().Elem()).Elem()
				item.Set(entries.Value())
				unshare(item)
				next.SetMapIndex(entries.Key(), item)
			}
			v.Set(next)
		}
	case reflect.Array:
		for i := range v.Len() {
			unshare(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				unshare(f)
			}
		}
	}
}

// alike reports whether two canonical specs are equal, where an empty list or
// map is as good as none. Specs that are not alike may still mean the same:
// compareSpecs decides.
func alike(a, b swarm.ServiceSpec) bool {
	return alikeValues(reflect.ValueOf(&a).Elem(), reflect.ValueOf(&b).Elem())
}

func alikeValues(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() && b.IsNil()
		}
		return alikeValues(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !alikeValues(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for entries := a.MapRange(); entries.Next(); {
			other := b.MapIndex(entries.Key())
			if !other.IsValid() || !alikeValues(entries.Value(), other) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if !alikeValues(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}
