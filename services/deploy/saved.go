package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Saved is a plan with what it takes to apply it: no project is read then.
type Saved struct {
	Format  int     `json:"format"`
	Plan    Plan    `json:"plan"`
	Scope   Scope   `json:"scope"`
	Project Project `json:"project"`
}

const savedFormat = 1

// Write writes a plan for ReadSaved.
func (s Saved) Write(w io.Writer) error {
	s.Format = savedFormat
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	return enc.Encode(s)
}

// ReadSaved reads what Write wrote.
func ReadSaved(r io.Reader) (Saved, error) {
	var s Saved
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return Saved{}, fmt.Errorf("read plan: %w", err)
	}
	if s.Format != savedFormat {
		return Saved{}, WithHint(errors.New("the file is no plan of this version of skep"), "run `skep plan -out FILE` again")
	}
	return s, nil
}

// Same reports whether two plans do the same to objects that are the same.
func (p Plan) Same(other Plan) bool {
	a, err := json.Marshal(p.comparable(other))
	if err != nil {
		return false
	}
	b, err := json.Marshal(other.comparable(p))
	return err == nil && bytes.Equal(a, b)
}
