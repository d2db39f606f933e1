package secretsync

import (
	"cmp"
	"maps"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
	"skep/secrets"
)

// Recall brings a lock up to what the Swarm has of some references: the newest
// version that a cluster's secrets are of, by their labels, or the lock's own
// where that is newer. Missing are the references that have no version.
func Recall(lock secrets.Lock, references []secrets.Reference, live []swarm.Secret, cluster string) (_ secrets.Lock, missing []secrets.Reference) {
	there := Raise(nil, live, func(s swarm.Secret) bool { return managed(s, cluster) && s.Spec.Labels[stack.LabelPreview] == "" })
	out := secrets.Lock{}
	maps.Copy(out, lock)
	for _, ref := range references {
		if version := there[ref]; newer(version, out[ref]) {
			out[ref] = version
		}
		if out[ref] == "" {
			missing = append(missing, ref)
		}
	}
	return out, missing
}

// Raise is a lock with the versions of those secrets that of picks, by their
// labels, where they are newer.
func Raise(lock secrets.Lock, live []swarm.Secret, of func(swarm.Secret) bool) secrets.Lock {
	out := secrets.Lock{}
	maps.Copy(out, lock)
	for _, s := range live {
		if !of(s) {
			continue
		}
		versions := strings.Split(s.Spec.Labels[secrets.LabelVersion], "\n")
		for i, text := range strings.Split(s.Spec.Labels[secrets.LabelReference], "\n") {
			ref, err := secrets.ParseReference(text)
			if err == nil && i < len(versions) && isVersion(versions[i]) && newer(versions[i], out[ref]) {
				out[ref] = versions[i]
			}
		}
	}
	return out
}

// isVersion says whether a lock takes it.
func isVersion(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil && s[0] != '0'
}

// newer compares versions of items, which are numbers that grow.
func newer(a, b string) bool { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) > 0 }
