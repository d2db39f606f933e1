package spec

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// field is one key of the file format.
type field struct {
	index    int
	key      string
	doc      string
	def      string
	example  string
	enum     []string
	required bool
	typ      reflect.Type
}

type fields struct {
	keys  []string // in the order of the type
	byKey map[string]field
}

var fieldCache sync.Map // reflect.Type -> fields

// fieldsOf reads the tags of a file type.
func fieldsOf(t reflect.Type) fields {
	if f, ok := fieldCache.Load(t); ok {
		return f.(fields)
	}
	out := fields{byKey: map[string]field{}}
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		if key == "" || strings.HasPrefix(key, ",") {
			continue
		}
		def := field{
			index: i, key: key, typ: f.Type,
			doc: f.Tag.Get("doc"), def: f.Tag.Get("default"), example: f.Tag.Get("example"),
			required: f.Tag.Get("required") == "true",
		}
		if e := f.Tag.Get("enum"); e != "" {
			def.enum = strings.Split(e, ",")
		}
		out.keys = append(out.keys, key)
		out.byKey[key] = def
	}
	fieldCache.Store(t, out)
	return out
}

// nearest finds the word that was probably meant.
func nearest(word string, words []string) (string, bool) {
	best, distance := "", max(1, len(word)/3)+1
	for _, w := range slices.Sorted(slices.Values(words)) {
		if d := editDistance(word, w, distance); d < distance {
			best, distance = w, d
		}
	}
	return best, best != ""
}

// editDistance is the optimal string alignment distance: insertions,
// deletions, substitutions and swaps of neighbours. It gives up at limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
