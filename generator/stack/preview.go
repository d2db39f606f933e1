package stack

import (
	"fmt"
	"regexp"
	"time"

	"skep/generator/problem"
	"skep/networks"
	"skep/secrets"
)

// PreviewName names a preview, "pr-12". It stands before the names of all that
// the preview has.
type PreviewName string

// maxPreviewName leaves room for a stack's name behind it.
const maxPreviewName = 20

// previewName is a DNS label (RFC 1123, 2.1).
var previewName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// ParsePreviewName reads a preview's name.
func ParsePreviewName(s string) (PreviewName, error) {
	switch {
	case len(s) > maxPreviewName:
		return "", fmt.Errorf("preview name %q is longer than %d characters", s, maxPreviewName)
	case !previewName.MatchString(s):
		return "", fmt.Errorf("preview name %q is no DNS label: lower case letters, digits and dashes, a letter or digit at both ends", s)
	}
	return PreviewName(s), nil
}

// Prefix puts the preview's name before another.
func (p PreviewName) Prefix(name string) string { return string(p) + "-" + name }

// Preview says that a stack is the copy of another, for a time.
type Preview struct {
	Name    PreviewName
	Of      Name
	Expires time.Time
}

// Labels of what belongs to a preview.
const (
	// LabelPreview names the preview.
	LabelPreview = "skep.preview"
	// LabelExpires is on its services: when it may be removed, in RFC 3339.
	LabelExpires = "skep.preview.expires"
)

// Previews is what previews may do. The zero value lets them use nothing that
// is shared but the ingress.
type Previews struct {
	Stacks  []Name // that may be previewed; empty: any
	Zones   []string
	Uses    []networks.Name
	Secrets []secrets.Prefix
	Pos     problem.Position
}

// Label is the value of LabelPreview, empty for what is no preview.
func (p *Preview) Label() string {
	if p == nil {
		return ""
	}
	return string(p.Name)
}
