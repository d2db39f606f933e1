package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// body bounds an answer in size and time.
type body struct {
	io.ReadCloser
	left, limit int64
	ctx         context.Context
	cancel      context.CancelFunc
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One byte more tells a full answer from one that is too long.
		if n, err := b.ReadCloser.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, b.limit)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

func newBody(content []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(content)) }

// minMasked keeps short strings, a scheme or a number, from being masked.
const minMasked = 6

// mask takes credentials out of an answer: some servers repeat them when they
// complain. Basic's password is masked too.
func mask(content []byte, held []string) []byte {
	for _, value := range held {
		if len(value) < minMasked {
			continue
		}
		content = bytes.ReplaceAll(content, []byte(value), []byte("[redacted]"))
		if plain, err := base64.StdEncoding.DecodeString(value); err == nil {
			if _, password, ok := strings.Cut(string(plain), ":"); ok && len(password) >= minMasked {
				content = bytes.ReplaceAll(content, []byte(password), []byte("[redacted]"))
			}
		}
	}
	return content
}
