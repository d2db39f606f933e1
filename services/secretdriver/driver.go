// Package secretdriver is a Swarm secret driver: a plugin that the leading
// manager asks for the value of a secret when it starts a task, so that no
// value is ever kept by the Swarm.
// https://github.com/moby/swarmkit/blob/master/manager/drivers/secrets.go
package secretdriver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"skep/secrets"
)

// Request is what Swarm asks, as far as it matters here.
type Request struct {
	SecretName    string
	SecretLabels  map[string]string
	ServiceName   string
	ServiceLabels map[string]string
	TaskID        string
	TaskImage     string
	NodeID        string
}

// Outcome is how a request ended. The log is the only place where it is said:
// Swarm tells nobody what a plugin answers.
type Outcome string

const (
	Given       Outcome = "given"
	FromCache   Outcome = "cached"
	Denied      Outcome = "denied" // by the policy
	Malformed   Outcome = "malformed"
	NotFound    Outcome = "not-found"
	Refused     Outcome = "refused" // by the source
	Unavailable Outcome = "unavailable"
	Failed      Outcome = "failed"
)

// Driver answers requests.
type Driver struct {
	Source secrets.Source
	Policy Policy
	// Timeout is for one secret. Swarm gives up after 15 seconds, and starts
	// no other task on that node while it waits.
	Timeout time.Duration
	Cache   *Cache // nil for none
	Log     *slog.Logger
}

// DefaultTimeout is a third of Swarm's: the secrets of a node's tasks wait one
// after another.
const DefaultTimeout = 5 * time.Second

// maxSecret is Swarm's limit; what is longer it throws away without a word.
// https://github.com/moby/swarmkit/blob/master/api/validation/secrets.go
const maxSecret = 500 << 10

// Get gives the value of a secret. The caller wipes it.
func (d *Driver) Get(ctx context.Context, r Request) (secrets.Value, error) {
	began := time.Now()
	template, err := referenced(r)
	outcome := Malformed
	var value secrets.Value
	if err == nil {
		outcome = Denied
		if err = d.Policy.Allow(r, template.References()); err == nil {
			ctx, cancel := context.WithTimeout(ctx, d.Timeout)
			defer cancel()
			value, outcome, err = d.resolve(ctx, template)
		}
	}
	log := d.Log.With("service", r.ServiceName, "secret", r.SecretName, "reference", names(template), "outcome", string(outcome),
		"task", r.TaskID, "node", r.NodeID, "took", time.Since(began).Round(time.Millisecond).String())
	if err != nil {
		log.WarnContext(ctx, "secret", "error", err.Error())
		return secrets.Value{}, err
	}
	log.InfoContext(ctx, "secret")
	return value, nil
}

// referenced reads what a secret is made of from its labels.
func referenced(r Request) (secrets.Template, error) {
	text, ok := r.SecretLabels[secrets.LabelTemplate]
	if !ok {
		if text, ok = r.SecretLabels[secrets.LabelReference]; !ok {
			return secrets.Template{}, fmt.Errorf("the secret has neither the label %s nor %s", secrets.LabelReference, secrets.LabelTemplate)
		}
		if _, err := secrets.ParseReference(text); err != nil {
			return secrets.Template{}, fmt.Errorf("label %s: %w", secrets.LabelReference, err)
		}
	}
	t, err := secrets.ParseTemplate(text)
	if err != nil {
		return secrets.Template{}, fmt.Errorf("label %s: %w", secrets.LabelTemplate, err)
	}
	if len(t.References()) == 0 {
		return secrets.Template{}, fmt.Errorf("label %s holds no reference", secrets.LabelTemplate)
	}
	return t, nil
}

func names(t secrets.Template) string {
	var out []string
	for _, r := range t.References() {
		out = append(out, r.String())
	}
	return strings.Join(out, " ")
}

// resolve asks the source, or the cache when the source is away.
func (d *Driver) resolve(ctx context.Context, t secrets.Template) (secrets.Value, Outcome, error) {
	refs := t.References()
	answers, outcome := d.read(ctx, refs)
	defer answers.Wipe()
	if err := answers.Err(); err != nil {
		return secrets.Value{}, worst(answers), err
	}
	value, err := t.Fill(func(r secrets.Reference) (secrets.Value, error) { return answers[r].Value, nil })
	switch {
	case err != nil:
		return secrets.Value{}, Failed, err
	case value.Len() == 0:
		return secrets.Value{}, Failed, errors.New("the value is empty, and Swarm takes no empty secret")
	case value.Len() >= maxSecret:
		defer value.Wipe()
		return secrets.Value{}, Failed, fmt.Errorf("the value has %d bytes, and Swarm takes less than %d", value.Len(), maxSecret)
	}
	return value, outcome, nil
}

func (d *Driver) read(ctx context.Context, refs []secrets.Reference) (secrets.Answers, Outcome) {
	if d.Cache == nil {
		return d.Source.Read(ctx, refs), Given
	}
	if d.Cache.away() {
		if known, ok := d.Cache.recall(refs); ok {
			return known, FromCache
		}
	}
	answers := d.Source.Read(ctx, refs)
	d.Cache.heard(answers)
	if worst(answers) == Unavailable {
		if known, ok := d.Cache.recall(refs); ok {
			answers.Wipe()
			return known, FromCache
		}
	}
	return answers, Given
}

// worst is the outcome of several answers. What the source says itself goes
// before that it is away, for which alone the cache stands in.
func worst(answers secrets.Answers) Outcome {
	order := []Outcome{Given, Unavailable, Failed, NotFound, Refused}
	at := 0
	for _, a := range answers {
		at = max(at, slices.Index(order, outcomeOf(a.Err)))
	}
	return order[at]
}

// outcomeOf sorts what a source answers for one reference.
func outcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return Given
	case errors.Is(err, secrets.ErrDenied):
		return Refused
	case errors.Is(err, secrets.ErrNotFound), errors.Is(err, secrets.ErrAmbiguous):
		return NotFound
	case errors.Is(err, secrets.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Failed
}
