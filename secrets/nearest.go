package secrets

import (
	"slices"
	"strings"
)

// nearestMax is how many names an error offers.
const nearestMax = 3

// Nearest returns the candidates that a misspelt name may have meant, the
// nearest first.
func Nearest(name string, candidates []string) []string {
	type near struct {
		name     string
		distance int
	}
	var found []near
	name = strings.ToLower(name)
	for _, c := range candidates {
		lower := strings.ToLower(c)
		d := distance(name, lower)
		if d <= max(1, len(name)/3) || len(name) > 2 && strings.Contains(lower, name) {
			found = append(found, near{c, d})
		}
	}
	slices.SortFunc(found, func(a, b near) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	found = slices.Compact(found)
	var out []string
	for _, n := range found[:min(len(found), nearestMax)] {
		out = append(out, n.name)
	}
	return out
}

// distance is how many letters must be changed, added, left out or swapped
// with their neighbour to come from a to b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + list(names, "or") + "?"
}

// list is "a", "a or b", "a, b or c".
func list(names []string, word string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " " + word + " " + names[len(names)-1]
}
