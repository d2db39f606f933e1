package event

import (
	"encoding/json"
	"errors"
	"fmt"
)

const (
	maxBody  = 25 << 20 // GitHub sends nothing larger
	maxDepth = 64       // the deepest payload that is known has 12
)

// decode reads one JSON object. What v has no field for is skipped.
func decode(body []byte, v any) error {
	if len(body) > maxBody {
		return fmt.Errorf("a body of %d bytes: %d are taken", len(body), maxBody)
	}
	if err := shallow(body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			return fmt.Errorf("no JSON, byte %d", syntax.Offset)
		case errors.As(err, &kind):
			return fmt.Errorf("%s: a JSON %s does not fit", kind.Field, kind.Value)
		}
		return errors.New("a value is not of its form")
	}
	return nil
}

// shallow counts brackets outside of strings, so that what comes after need
// not recurse far. It also holds the body to be an object: null and [] are JSON
// too.
func shallow(body []byte) error {
	depth, quoted, started := 0, false, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested more than %d deep", maxDepth)
			}
			started = started || c == '{'
		case c == '}' || c == ']':
			depth--
		}
		if !started && body[i] > ' ' {
			return errors.New("no JSON object")
		}
	}
	if !started {
		return errors.New("no JSON object")
	}
	return nil
}
