// Package highlighting stands in for goldmark-highlighting, which Caddy's
// templates colour the code in Markdown with.
//
// The real one parses every lexer and style of Chroma when a process starts:
// half of the time that `skep --help` takes. Code in {{markdown}} comes out
// plain instead, as goldmark writes it.
package highlighting

import (
	"github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/yuin/goldmark"
)

// Option would change how code is coloured.
type Option struct{}

// WithFormatOptions takes what Chroma's formatter would be told.
func WithFormatOptions(...html.Option) Option { return Option{} }

// NewHighlighting is an extension that changes nothing.
func NewHighlighting(...Option) goldmark.Extender { return plain{} }

type plain struct{}

func (plain) Extend(goldmark.Markdown) {}
