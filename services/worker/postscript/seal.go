package postscript

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// A postscript is sealed for the launcher of its job: a log is kept by the node,
// and is shown to whoever may read logs. HPKE (RFC 9180) in base mode, X25519,
// HKDF-SHA256, AES-256-GCM: the encapsulated key, then chunks, the last of which
// says that it is.
var (
	kem  = hpke.DHKEM(ecdh.X25519())
	kdf  = hpke.HKDFSHA256()
	aead = hpke.AES256GCM()
	info = []byte("skep job postscript 1")

	more, last = []byte("more"), []byte("last") // what a chunk is bound to
)

const (
	encapsulated = 32
	overhead     = 16 // of a sealed chunk
	sealedBytes  = 6 << 10
	chunkBytes   = sealedBytes - overhead
)

// Token marks the lines of one run's postscript, and seals them: it is a public
// key. The job can find it out, and forge its own postscript with it, which says no
// more than its output may.
type Token string

// ParseToken is the only door to a Token besides Key.Token.
func ParseToken(text string) (Token, error) {
	_, err := public(Token(text))
	return Token(text), err
}

func public(t Token) (hpke.PublicKey, error) {
	raw, err := base64.RawURLEncoding.DecodeString(string(t))
	if err != nil {
		return nil, errNoToken
	}
	key, err := kem.NewPublicKey(raw)
	if err != nil {
		return nil, errNoToken
	}
	return key, nil
}

var errNoToken = errors.New("it is no public key of this version's: the worker and /skep-job have to be of one version")

// Key opens what its Token sealed. It never leaves the process that made it.
type Key struct {
	private hpke.PrivateKey
}

// NewKey makes one that nobody else has.
func NewKey() (Key, error) {
	private, err := kem.GenerateKey()
	if err != nil {
		return Key{}, fmt.Errorf("make a key for what a job hands back: %w", err)
	}
	return Key{private}, nil
}

// Token is for the job.
func (k Key) Token() Token {
	return Token(base64.RawURLEncoding.EncodeToString(k.private.PublicKey().Bytes()))
}

// sealer seals what is written to it.
type sealer struct {
	to     io.Writer
	sender *hpke.Sender
	held   []byte
}

func newSealer(to io.Writer, t Token) (*sealer, error) {
	key, err := public(t)
	if err != nil {
		return nil, fmt.Errorf("seal for a token: %w", err)
	}
	enc, sender, err := hpke.NewSender(key, kdf, aead, info)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if _, err := to.Write(enc); err != nil {
		return nil, err
	}
	return &sealer{to: to, sender: sender}, nil
}

func (s *sealer) Write(p []byte) (int, error) {
	s.held = append(s.held, p...)
	for len(s.held) > chunkBytes { // one is left for the last
		if err := s.seal(more, s.held[:chunkBytes]); err != nil {
			return 0, err
		}
		s.held = append(s.held[:0], s.held[chunkBytes:]...)
	}
	return len(p), nil
}

// Close seals what is left. Without it the end is missing.
func (s *sealer) Close() error { return s.seal(last, s.held) }

func (s *sealer) seal(what, chunk []byte) error {
	sealed, err := s.sender.Seal(what, chunk)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	_, err = s.to.Write(sealed)
	return err
}

// opener reads what a sealer wrote. It is ErrBroken where that was changed, cut
// off or sealed for somebody else.
type opener struct {
	from      io.Reader
	recipient *hpke.Recipient
	next      []byte // sealed, read ahead: what follows says whether it is the last
	open      []byte
	ended     bool
}

func newOpener(from io.Reader, k Key) (*opener, error) {
	enc := make([]byte, encapsulated)
	if _, err := io.ReadFull(from, enc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	recipient, err := hpke.NewRecipient(enc, k.private, kdf, aead, info)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	o := &opener{from: from, recipient: recipient}
	o.next, err = o.chunk()
	return o, err
}

// chunk is the next one, sealed; nil after the last.
func (o *opener) chunk() ([]byte, error) {
	sealed := make([]byte, sealedBytes)
	n, err := io.ReadFull(o.from, sealed)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return sealed[:n], nil
}

func (o *opener) Read(p []byte) (int, error) {
	for len(o.open) == 0 {
		if o.ended {
			return 0, io.EOF
		}
		following, err := o.chunk()
		if err != nil {
			return 0, err
		}
		what := more
		if o.ended = len(following) == 0; o.ended {
			what = last
		}
		if o.open, err = o.recipient.Open(what, o.next); err != nil {
			return 0, fmt.Errorf("%w: it is not what /skep-job sealed: %w", ErrBroken, err)
		}
		o.next = following
	}
	n := copy(p, o.open)
	o.open = o.open[n:]
	return n, nil
}
