package onepassword

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"skep/secrets"
)

// Where the token is looked for. The Swarm secret is the place for services.
const (
	TokenVariable     = "OP_CONNECT_TOKEN"
	TokenFileVariable = "OP_CONNECT_TOKEN_FILE"
	TokenSecret       = "/run/secrets/op-connect-token"
)

// Token gives the access token. It is asked at every request, so that a token
// that is replaced in its file is used at once.
type Token func() (secrets.Value, error)

// ErrNoToken: there is no token in any of the places.
var ErrNoToken = errors.New("there is no 1Password Connect token")

// StaticToken is a token that never changes.
func StaticToken(token string) Token {
	v := secrets.NewValue([]byte(token))
	return func() (secrets.Value, error) { return v.Clone() }
}

// FileToken reads the token from a file.
func FileToken(path string) Token {
	return func() (secrets.Value, error) {
		content, err := os.ReadFile(path)
		if err != nil {
			return secrets.Value{}, fmt.Errorf("read the Connect token: %w", err)
		}
		token := bytes.TrimSpace(content)
		if len(token) == 0 {
			return secrets.Value{}, fmt.Errorf("%w: %s is empty", ErrNoToken, path)
		}
		return secrets.NewValue(token), nil
	}
}

// TokenFrom finds the token as the environment says: in the file that
// OP_CONNECT_TOKEN_FILE names, in OP_CONNECT_TOKEN, or in the Swarm secret
// op-connect-token.
func TokenFrom(lookup func(string) (string, bool)) (Token, error) {
	file, _ := lookup(TokenFileVariable)
	token, _ := lookup(TokenVariable)
	switch {
	case file != "" && token != "":
		return nil, fmt.Errorf("both %s and %s are set: unset one", TokenFileVariable, TokenVariable)
	case file != "":
		return FileToken(file), nil
	case token != "":
		return StaticToken(token), nil
	}
	if _, err := os.Stat(TokenSecret); err == nil {
		return FileToken(TokenSecret), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the Connect token: %w", err)
	}
	return nil, fmt.Errorf("%w: set %s, or %s to a file, or mount the Swarm secret op-connect-token", ErrNoToken, TokenVariable, TokenFileVariable)
}

// expiry reads when a token ends from its claims (RFC 7519, 4.1.4). The
// signature is the server's business.
func expiry(token []byte) (time.Time, bool) {
	parts := bytes.Split(token, []byte("."))
	if len(parts) != 3 {
		return time.Time{}, false
	}
	claims, err := base64.RawURLEncoding.DecodeString(string(parts[1]))
	if err != nil {
		return time.Time{}, false
	}
	var c struct {
		Expires int64 `json:"exp"`
	}
	if json.Unmarshal(claims, &c) != nil || c.Expires == 0 {
		return time.Time{}, false
	}
	return time.Unix(c.Expires, 0), true
}
