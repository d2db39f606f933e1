package deploy

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/moby/moby/api/types/swarm"
)

// fill gives everything below v a value, lists and maps one entry.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, item := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(item)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, item)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	default:
		change(v)
	}
}

// change gives a value that a map, a list or a field holds another value.
func change(v reflect.Value) {
	switch {
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	case v.CanFloat():
		v.SetFloat(v.Float() + 1)
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	}
}

// each visits every single value below v, with its path.
func each(v reflect.Value, path string, visit func(path string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			each(v.Elem(), path, visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), path+"[]", visit)
		}
	case reflect.Map:
		visit(path, v)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				each(v.Field(i), path+"."+v.Type().Field(i).Name, visit)
			}
		}
	default:
		visit(path, v)
	}
}

// TestCloneSharesNothing changes every value of a copy, one after the other:
// the original stays, and the two are no longer alike.
func TestCloneSharesNothing(t *testing.T) {
	var spec swarm.ServiceSpec
	fill(reflect.ValueOf(&spec).Elem())
	before, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	whole := clone(spec)
	if after, _ := json.Marshal(whole); string(after) != string(before) || !alike(spec, whole) {
		t.Fatalf("the copy differs:\n%s\n%s", before, after)
	}
	values := 0
	each(reflect.ValueOf(&whole).Elem(), "", func(path string, v reflect.Value) {
		values++
		if v.Kind() == reflect.Map {
			old := reflect.MakeMap(v.Type())
			for entries := v.MapRange(); entries.Next(); {
				old.SetMapIndex(entries.Key(), entries.Value())
				v.SetMapIndex(entries.Key(), reflect.Zero(v.Type().Elem()))
			}
			defer v.Set(old)
		} else {
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			change(v)
			defer v.Set(old)
		}
		if alike(spec, whole) {
			t.Errorf("another %s makes no difference", path)
		}
		if after, _ := json.Marshal(spec); string(after) != string(before) {
			t.Errorf("%s is shared with the original", path)
		}
	})
	if values < 100 {
		t.Fatalf("only %d values were tried", values)
	}
}

// TestAlikeIsNoDifference takes lists and maps away: specs that are alike have
// no setting that differs.
func TestAlikeIsNoDifference(t *testing.T) {
	var spec swarm.ServiceSpec
	fill(reflect.ValueOf(&spec).Elem())
	empty := clone(spec)
	empty.Labels, empty.TaskTemplate.ContainerSpec.Env, empty.EndpointSpec.Ports = map[string]string{}, []string{}, nil
	none := clone(empty)
	none.Labels, none.TaskTemplate.ContainerSpec.Env = nil, nil
	if !alike(empty, none) || len(compareSpecs(empty, none, nil)) > 0 {
		t.Error("an empty list is not as good as none")
	}
	labelled, listed := clone(none), clone(none)
	labelled.Labels, listed.TaskTemplate.ContainerSpec.Env = map[string]string{"a": ""}, []string{""}
	if alike(none, labelled) || alike(labelled, none) || alike(none, listed) || alike(listed, none) {
		t.Error("an empty entry is as good as none")
	}
	if alike(spec, none) || len(compareSpecs(spec, none, nil)) == 0 {
		t.Error("an entry is as good as none")
	}
	none.Mode.Global = nil
	if alike(empty, none) {
		t.Error("a mode is as good as none")
	}
}
