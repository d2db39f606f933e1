package expand

import (
	"time"

	"skep/generator/bundle"
	"skep/generator/stack"
)

// mark puts the label of a preview on what the stack defines beside services.
func (f *file) mark(def map[string]any) {
	preview := f.stack.Preview
	if preview == nil {
		return
	}
	labels, _ := def["labels"].(map[string]any)
	if labels == nil {
		labels = map[string]any{}
	}
	labels[stack.LabelPreview] = string(preview.Name)
	def["labels"] = labels
}

// preview labels the service, so that it is known and removed when its time is
// over.
func (b *builder) preview() {
	preview := b.stack.Preview
	if preview == nil {
		return
	}
	origin := bundle.Origin{Pos: b.stack.Pos, By: "preview"}
	b.set(origin, string(preview.Name), "deploy", "labels", stack.LabelPreview)
	b.set(origin, preview.Expires.UTC().Format(time.RFC3339), "deploy", "labels", stack.LabelExpires)
}
