package store

import (
	"bytes"
	"fmt"

	"skep/secrets"
)

// onlyKey is the id of a key that stands alone in its file.
const onlyKey KeyID = "key"

// ParseKeys reads a file of keys: the current one first, one a line as "id key",
// or one key alone, of which the id is "key". Errors quote nothing.
func ParseKeys(content []byte) (Keys, error) {
	keys := Keys{All: map[KeyID]secrets.Value{}}
	for i, line := range bytes.Split(bytes.TrimSpace(content), []byte("\n")) {
		var id KeyID
		var key []byte
		switch fields := bytes.Fields(line); {
		case len(fields) == 2:
			id, key = KeyID(fields[0]), fields[1]
		case len(fields) == 1 && i == 0:
			id, key = onlyKey, fields[0]
		default:
			return Keys{}, fmt.Errorf("line %d of the encryption keys: write \"id key\", the current one first", i+1)
		}
		if _, twice := keys.All[id]; twice {
			return Keys{}, fmt.Errorf("line %d of the encryption keys: this id is there already", i+1)
		}
		if keys.Current == "" {
			keys.Current = id
		}
		keys.All[id] = secrets.NewValue(bytes.Clone(key))
	}
	if _, err := keys.ring(); err != nil {
		return Keys{}, err
	}
	return keys, nil
}
