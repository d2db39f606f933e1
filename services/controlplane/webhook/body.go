package webhook

import (
	"errors"
	"io"
	"net/http"

	"golang.org/x/sync/semaphore"
)

// errFull says that the bodies in flight take all the memory that they may.
var errFull = errors.New("no memory left for bodies")

const firstBuffer = 16 << 10 // most deliveries fit

// budget bounds the memory that all bodies take together.
type budget struct {
	free *semaphore.Weighted
	size int64
}

func newBudget(size int64) *budget { return &budget{semaphore.NewWeighted(size), size} }

// read reads a body and says what to give back when it is not needed any more.
// Memory is taken as bytes arrive: who announces much and sends little holds
// little.
func (b *budget) read(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	var held int64
	release = func() { b.free.Release(held) }
	take := func(n int64) error {
		if !b.free.TryAcquire(n) {
			return errFull
		}
		held += n
		return nil
	}
	// One byte more than there should be shows the end without another buffer.
	most := limit + 1
	if r.ContentLength >= 0 {
		most = r.ContentLength + 1
	}
	size := min(most, firstBuffer)
	if err := take(size); err != nil {
		return nil, release, err
	}
	body = make([]byte, 0, size)
	in := http.MaxBytesReader(w, r.Body, limit)
	for {
		n, err := in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, release, nil
		}
		if err != nil {
			return nil, release, err
		}
		if len(body) < cap(body) {
			continue
		}
		before := int64(cap(body))
		size := min(2*before, most)
		if size == before { // longer than it said; net/http does not let it
			return nil, release, io.ErrUnexpectedEOF
		}
		if err := take(size); err != nil {
			return nil, release, err
		}
		body = append(make([]byte, 0, size), body...)
		b.free.Release(before)
		held -= before
	}
}
