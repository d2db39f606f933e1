package secrets

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Labels of the Swarm secrets that are made from references. None holds a
// value. Where a secret has several references, a template's, the first three
// have a line for each, in the same order.
const (
	LabelReference = "skep.secret.reference"
	LabelItem      = "skep.secret.item" // its id
	LabelVersion   = "skep.secret.version"
	// LabelContent is a hash of the reference or the template, not of a value:
	// versions of one secret share it.
	LabelContent = "skep.secret.content"
	// LabelTemplate is the text that a secret driver fills in. It goes before
	// LabelReference.
	LabelTemplate = "skep.secret.template"
	// LabelCluster and LabelStack say whose the secret is.
	LabelCluster = "skep.cluster"
	LabelStack   = "skep.stack"
)

// Labels describes a secret, by what a source answers for its references.
func Labels(t Template, answers Answers) map[string]string {
	refs := t.References()
	names, items, versions := make([]string, len(refs)), make([]string, len(refs)), make([]string, len(refs))
	for i, r := range refs {
		item := answers[r].Item
		names[i], items[i], versions[i] = r.String(), item.ID, item.Version
	}
	content := t.String()
	if r, sole := t.Sole(); sole {
		content = r.String()
	}
	sum := sha256.Sum256([]byte(content))
	return map[string]string{
		LabelReference: strings.Join(names, "\n"),
		LabelItem:      strings.Join(items, "\n"),
		LabelVersion:   strings.Join(versions, "\n"),
		LabelContent:   hex.EncodeToString(sum[:8]),
	}
}
