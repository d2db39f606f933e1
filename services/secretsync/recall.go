package secretsync

import (
	"cmp"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
	"skep/secrets"
)

// Recall brings a lock up to what the Swarm has of some references, by the
// labels of a cluster's secrets, as Raise does. Missing are the references that
// have no version.
func Recall(lock secrets.Lock, references []secrets.Reference, live []swarm.Secret, cluster string) (_ secrets.Lock, missing []secrets.Reference) {
	raised := Raise(lock, live, func(s swarm.Secret) bool { return managed(s, cluster) && s.Spec.Labels[stack.LabelPreview] == "" })
	out := secrets.Lock{}
	maps.Copy(out, lock)
	for _, ref := range references {
		if item, ok := raised[ref]; ok {
			out[ref] = item
		} else {
			missing = append(missing, ref)
		}
	}
	return out, missing
}

// Raise is a lock with what those secrets that of picks say that they are of.
// Of one item the newest version counts, the lock's own among them. An item that
// was made anew begins at version 1: where the lock has another item than the
// Swarm, the Swarm's counts.
func Raise(lock secrets.Lock, live []swarm.Secret, of func(swarm.Secret) bool) secrets.Lock {
	out := secrets.Lock{}
	maps.Copy(out, lock)
	for ref, there := range labelled(live, of) {
		if mine := out[ref]; mine.ID == "" || there.ID == "" || mine.ID == there.ID {
			if newer(mine.Version, there.Version) {
				continue
			}
		}
		out[ref] = there
	}
	return out
}

// labelled reads items from labels. Of several items that had the name of one
// reference it is that whose secrets were made last.
func labelled(live []swarm.Secret, of func(swarm.Secret) bool) map[secrets.Reference]secrets.Item {
	type found struct {
		secrets.Item
		made time.Time // the last of its secrets
	}
	items := map[secrets.Reference]map[string]found{} // by id
	for _, s := range live {
		if !of(s) {
			continue
		}
		versions := strings.Split(s.Spec.Labels[secrets.LabelVersion], "\n")
		ids := strings.Split(s.Spec.Labels[secrets.LabelItem], "\n")
		for i, text := range strings.Split(s.Spec.Labels[secrets.LabelReference], "\n") {
			ref, err := secrets.ParseReference(text)
			if err != nil || i >= len(versions) || !isVersion(versions[i]) || i >= len(ids) {
				continue
			}
			if items[ref] == nil {
				items[ref] = map[string]found{}
			}
			f := items[ref][ids[i]]
			f.ID = ids[i]
			if newer(versions[i], f.Version) {
				f.Version = versions[i]
			}
			if s.CreatedAt.After(f.made) {
				f.made = s.CreatedAt
			}
			items[ref][f.ID] = f
		}
	}
	out := map[secrets.Reference]secrets.Item{}
	for ref, byID := range items {
		var last found
		for _, f := range byID {
			if cmp.Or(f.made.Compare(last.made), compareVersions(f.Version, last.Version), cmp.Compare(f.ID, last.ID)) > 0 {
				last = f
			}
		}
		out[ref] = last.Item
	}
	return out
}

// isVersion says whether a lock takes it.
func isVersion(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil && s[0] != '0'
}

func newer(a, b string) bool { return compareVersions(a, b) > 0 }

// compareVersions compares versions of an item, which are numbers that grow.
func compareVersions(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
