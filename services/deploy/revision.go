package deploy

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
)

// State is how far a revision came.
type State string

const (
	StatePending  State = "pending"  // a deploy is at it, or was cut off
	StateDeployed State = "deployed" // everything converged
	StateFailed   State = "failed"
)

// Labels of a revision's config.
const (
	labelNumber  = "skep.revision.number"
	labelState   = "skep.revision.state"
	labelWho     = "skep.revision.who"
	labelWhen    = "skep.revision.when"
	labelCommit  = "skep.revision.commit"
	labelNote    = "skep.revision.note"
	labelContent = "skep.revision.content"
)

// Revision is one deploy of a stack, kept in the Swarm as a config.
type Revision struct {
	Stack  stack.Name `json:"stack"`
	Number int        `json:"revision"`
	State  State      `json:"state"`
	Who    string     `json:"who,omitempty"`
	When   time.Time  `json:"when"`
	Commit string     `json:"commit,omitempty"`
	Note   string     `json:"note,omitempty"`
	// Content is the hash of the release.
	Content string `json:"content"`
	Preview string `json:"preview,omitempty"` // that the stack belongs to

	config swarm.Config
}

// maxConfig is what Swarm takes, in bytes.
const maxConfig = 1_000_000

// revisions are all revisions by stack, the oldest first.
func revisions(live Live) map[stack.Name][]Revision {
	out := map[stack.Name][]Revision{}
	for _, c := range live.Configs {
		labels := c.Spec.Labels
		if labels[LabelKind] != kindRevision {
			continue
		}
		number, err := strconv.Atoi(labels[labelNumber])
		if err != nil {
			continue
		}
		when, _ := time.Parse(time.RFC3339, labels[labelWhen])
		name := stack.Name(labels[LabelStack])
		out[name] = append(out[name], Revision{
			Stack: name, Number: number, State: State(labels[labelState]), Who: labels[labelWho], When: when,
			Commit: labels[labelCommit], Note: labels[labelNote], Content: labels[labelContent],
			Preview: labels[stack.LabelPreview], config: c,
		})
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b Revision) int { return cmp.Compare(a.Number, b.Number) })
	}
	return out
}

// History lists the revisions of a stack, the newest first; of all stacks when
// the name is empty.
func History(live Live, name stack.Name) []Revision {
	out := []Revision{}
	for of, list := range revisions(live) {
		if name == "" || of == name {
			out = append(out, list...)
		}
	}
	slices.SortFunc(out, func(a, b Revision) int {
		return cmp.Or(cmp.Compare(a.Stack, b.Stack), cmp.Compare(b.Number, a.Number))
	})
	return out
}

// deployed is the newest revision that is whole.
func deployed(history []Revision) (Revision, bool) {
	for _, r := range slices.Backward(history) {
		if r.State == StateDeployed {
			return r, true
		}
	}
	return Revision{}, false
}

// unfinished reports whether a deploy of a release has to see that the revision
// comes up: it was cut off, or it failed and says the same. One that failed may
// have been left as it is, and then nothing else tells.
func (r Revision) unfinished(release Release) bool {
	if r.State != StateFailed {
		return r.State == StatePending
	}
	content, _, err := release.content()
	return err == nil && content == r.Content
}

// Release reads what the revision deployed.
func (r Revision) Release() (Release, error) {
	z, err := gzip.NewReader(bytes.NewReader(r.config.Spec.Data))
	if err != nil {
		return Release{}, fmt.Errorf("revision %d of %s: %w", r.Number, r.Stack, err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return Release{}, fmt.Errorf("revision %d of %s: %w", r.Number, r.Stack, err)
	}
	var out Release
	if err := json.Unmarshal(data, &out); err != nil {
		return Release{}, fmt.Errorf("revision %d of %s: %w", r.Number, r.Stack, err)
	}
	return out, nil
}

// content is the hash of a release; JSON sorts the keys of maps.
func (r Release) content() (string, []byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])[:16], data, nil
}

// encode makes the config that stores a revision.
func (r Revision) encode(release Release) (swarm.ConfigSpec, error) {
	_, data, err := release.content()
	if err != nil {
		return swarm.ConfigSpec{}, err
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return swarm.ConfigSpec{}, err
	}
	if _, err := z.Write(data); err != nil {
		return swarm.ConfigSpec{}, err
	}
	if err := z.Close(); err != nil {
		return swarm.ConfigSpec{}, err
	}
	if out.Len() > maxConfig {
		return swarm.ConfigSpec{}, WithHint(
			fmt.Errorf("stack %s: its revision takes %d bytes compressed, and Swarm takes %d in a config", r.Stack, out.Len(), maxConfig),
			"move large x-files out of the stack, or split it")
	}
	return swarm.ConfigSpec{Annotations: swarm.Annotations{Name: r.name(), Labels: r.labels()}, Data: out.Bytes()}, nil
}

// name is unique in the Swarm: of two deploys that take the same number, one
// is refused. A name has at most 64 characters.
func (r Revision) name() string {
	name := fmt.Sprintf("skep.%s.%d", r.Stack, r.Number)
	if len(name) > 64 {
		sum := sha256.Sum256([]byte(r.Stack))
		name = fmt.Sprintf("skep.%s.%d", hex.EncodeToString(sum[:])[:40], r.Number)
	}
	return name
}

func (r Revision) labels() map[string]string {
	out := map[string]string{
		LabelKind: kindRevision, LabelStack: string(r.Stack), labelNumber: strconv.Itoa(r.Number), labelState: string(r.State),
		labelWho: r.Who, labelWhen: r.When.UTC().Format(time.RFC3339), labelCommit: r.Commit, labelNote: oneLine(r.Note), labelContent: r.Content,
		stack.LabelPreview: r.Preview,
	}
	for k, v := range out {
		if v == "" {
			delete(out, k)
		}
	}
	return out
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
