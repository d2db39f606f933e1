package onepassword

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/1Password/connect-sdk-go/onepassword"

	"skep/secrets"
)

// item is the SDK's item, but for the fields: the SDK keeps values in strings,
// which cannot be wiped.
type item struct {
	onepassword.Item
	Fields []*field `json:"fields"`
	State  state    `json:"state"` // the SDK leaves it out
}

// state is whether an item is still in use; that of one that is has none.
type state string

const (
	archived state = "ARCHIVED"
	deleted  state = "DELETED"
)

// answersTo reports whether an item still is what references name: by its id,
// or by its name while it is in use.
func (i *item) answersTo(refs []secrets.Reference) bool {
	return !slices.ContainsFunc(refs, func(r secrets.Reference) bool {
		return !strings.EqualFold(r.Item, i.ID) && (!strings.EqualFold(r.Item, i.Title) || i.State != "")
	})
}

type field struct {
	ID      string                       `json:"id"`
	Section *onepassword.ItemSection     `json:"section"`
	Type    onepassword.ItemFieldType    `json:"type"`
	Purpose onepassword.ItemFieldPurpose `json:"purpose"`
	Label   string                       `json:"label"`
	Value   text                         `json:"value"`
	TOTP    text                         `json:"totp"`
}

func (i *item) wipe() {
	if i == nil {
		return
	}
	for _, f := range i.Fields {
		f.Value.Wipe()
		f.TOTP.Wipe()
	}
}

// text is a JSON string that is decoded into a value.
type text struct{ secrets.Value }

var errNotText = errors.New("a value is no JSON string")

// UnmarshalJSON is called with valid JSON only.
func (t *text) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	if len(data) < 2 || data[0] != '"' {
		return errNotText
	}
	t.Value = secrets.NewValue(unquote(data[1 : len(data)-1]))
	return nil
}

// escapes are the short escapes of JSON (RFC 8259, 7).
var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unquote undoes the escapes of the inside of a valid JSON string, without
// the intermediate string that encoding/json would leave behind. As there,
// what is no Unicode becomes U+FFFD.
func unquote(in []byte) []byte {
	out := make([]byte, 0, 3*len(in)) // a bad byte becomes three, and growing would copy
	for len(in) > 0 {
		switch {
		case in[0] != '\\':
			r, size := utf8.DecodeRune(in)
			out = utf8.AppendRune(out, r)
			in = in[size:]
		case in[1] != 'u':
			out = append(out, escapes[in[1]])
			in = in[2:]
		default:
			r := hex4(in[2:])
			in = in[6:]
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(in) >= 6 && in[0] == '\\' && in[1] == 'u' {
					pair = utf16.DecodeRune(r, hex4(in[2:]))
				}
				if r = pair; pair != utf8.RuneError {
					in = in[6:]
				}
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

func hex4(digits []byte) rune {
	var r rune
	for _, c := range digits[:4] {
		r <<= 4
		switch {
		case c >= 'a':
			r |= rune(c - 'a' + 10)
		case c >= 'A':
			r |= rune(c - 'A' + 10)
		default:
			r |= rune(c - '0')
		}
	}
	return r
}
