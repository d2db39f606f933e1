package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// ErrUnavailable is in the error of what needs the database while it is away or
// refuses.
var ErrUnavailable = errors.New("the storage's database cannot be used")

// pace is how long things take.
type pace struct {
	timeout time.Duration // of one call to the database
	retry   time.Duration // between calls for reading while it is away
	lease   time.Duration // a dead holder's lock is free after this; a third of it renews
	poll    time.Duration // between looks at a lock that somebody else holds
}

var defaultPace = pace{timeout: 4 * time.Second, retry: 5 * time.Second, lease: 15 * time.Second, poll: 500 * time.Millisecond}

// store is the certmagic.Storage of all configurations with one database and
// one copy.
type store struct {
	db    *database
	copy  localCopy
	locks locks
	pace  pace
	log   func() *zap.Logger

	mu      sync.Mutex
	away    time.Time // since when the database is away or refuses; zero: it does not
	refused bool      // it refuses
	retry   time.Time // when to ask again

	stop context.CancelFunc
	done chan struct{} // closed when run has returned
}

// open returns a store without waiting for its database.
func open(ctx context.Context, dsn, dir string, p pace, log func() *zap.Logger) (*store, error) {
	db, err := newDatabase(ctx, dsn, p.timeout)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	s := &store{
		db: db, copy: localCopy{files: certmagic.FileStorage{Path: dir}},
		locks: locks{db: db, pace: p, log: log, held: map[string][]*lease{}},
		pace:  p, log: log, stop: stop, done: make(chan struct{}),
	}
	go s.run(ctx)
	return s, nil
}

// run renews locks, once removes from the copy what others have deleted, and
// gives locks back in the end.
func (s *store) run(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(s.pace.lease / 3)
	defer tick.Stop()
	pruned := false
	for {
		select {
		case <-ctx.Done():
			if err := s.locks.close(context.WithoutCancel(ctx)); err != nil {
				s.log().Warn("locks are not given back; they run out", zap.Error(err))
			}
			return
		case <-tick.C:
		}
		s.locks.maintain(ctx)
		if !pruned && s.mayAsk() {
			err := s.prune(ctx)
			s.note(ctx, err)
			pruned = err == nil
		}
	}
}

func (s *store) prune(ctx context.Context) error {
	kept, err := s.copy.keys(ctx)
	if err != nil {
		s.log().Warn("cannot read the local copy", zap.Error(err))
	}
	// Asked after the copy, the database has all that is in it and was not deleted.
	stored, err := s.db.keys(ctx, "")
	if err != nil {
		return err
	}
	exists := make(map[key]bool, len(stored))
	for _, k := range stored {
		exists[key(k)] = true
	}
	for _, k := range kept {
		if !exists[k] {
			s.warn(k, s.copy.forget(k))
		}
	}
	return nil
}

// Destruct ends everything; nobody uses the store any more.
func (s *store) Destruct() error {
	s.stop()
	<-s.done
	s.db.pool.Close()
	return nil
}

// String names the store in Caddy's logs.
func (s *store) String() string { return s.db.String() }

// Store writes a value to the database, and then to the copy.
func (s *store) Store(ctx context.Context, name string, value []byte) error {
	k, err := parseKey(name)
	if err != nil || k == "" {
		return errors.Join(fmt.Errorf("store %q: %w", name, fs.ErrInvalid), err)
	}
	if strings.HasPrefix(name, trialPrefix) {
		err = s.outlast(ctx, func() error { return s.write(ctx, k, value) })
	} else {
		err = s.write(ctx, k, value)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", k, err)
	}
	return nil
}

func (s *store) write(ctx context.Context, k key, value []byte) error {
	modified, err := s.db.store(ctx, k, value)
	if err := s.note(ctx, err); err != nil {
		return err
	}
	s.warn(k, s.copy.keep(ctx, k, item{value, modified}))
	return nil
}

// trialPrefix begins the keys that certmagic tries a storage with before it
// obtains a certificate. It gives the certificate up for good when that fails,
// so that one which is missing would stay so after the database is back: the
// trial waits, and with it the certificate.
const trialPrefix = "rw_test_"

// outlast repeats a call until the database is there.
func (s *store) outlast(ctx context.Context, call func() error) error {
	again := time.NewTicker(s.pace.retry)
	defer again.Stop()
	for {
		err := call()
		if !errors.Is(err, ErrUnavailable) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Load reads a value.
func (s *store) Load(ctx context.Context, name string) ([]byte, error) {
	k, err := parseKey(name)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return read(ctx, s, k, func() ([]byte, error) {
		it, err := s.db.load(ctx, k)
		switch {
		case err == nil:
			s.warn(k, s.copy.keep(ctx, k, it))
		case isMissing(err):
			s.warn(k, s.copy.forget(k))
		}
		return it.value, err
	}, func() ([]byte, error) { return s.copy.files.Load(ctx, string(k)) })
}

// Delete removes a key and all keys below it.
func (s *store) Delete(ctx context.Context, name string) error {
	k, err := parseKey(name)
	if err != nil || k == "" {
		return errors.Join(fmt.Errorf("delete %q: %w", name, fs.ErrInvalid), err)
	}
	if err := s.note(ctx, s.db.delete(ctx, k)); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	s.warn(k, s.copy.forgetAll(ctx, k))
	return nil
}

// Exists reports whether there is a value or a folder.
func (s *store) Exists(ctx context.Context, name string) bool {
	_, err := s.Stat(ctx, name)
	return err == nil
}

// List returns the keys below one.
func (s *store) List(ctx context.Context, name string, recursive bool) ([]string, error) {
	k, err := parseKey(name)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return read(ctx, s, k, func() ([]string, error) { return s.db.list(ctx, k, recursive) },
		func() ([]string, error) { return s.copy.files.List(ctx, string(k), recursive) })
}

// Stat describes a key.
func (s *store) Stat(ctx context.Context, name string) (certmagic.KeyInfo, error) {
	k, err := parseKey(name)
	if err != nil {
		return certmagic.KeyInfo{}, fmt.Errorf("stat: %w", err)
	}
	return read(ctx, s, k, func() (certmagic.KeyInfo, error) { return s.db.stat(ctx, k) },
		func() (certmagic.KeyInfo, error) { return s.copy.files.Stat(ctx, string(k)) })
}

// Lock waits for a lock.
func (s *store) Lock(ctx context.Context, name string) error {
	return s.note(ctx, s.locks.acquire(ctx, name))
}

// TryLock takes a lock if it is free.
func (s *store) TryLock(ctx context.Context, name string) (bool, error) {
	ok, err := s.locks.try(ctx, name)
	return ok, s.note(ctx, err)
}

// Unlock gives a lock back.
func (s *store) Unlock(ctx context.Context, name string) error {
	return s.locks.release(ctx, name)
}

// RenewLockLease is asked before each attempt to obtain a certificate, and its
// failure keeps an ingress that could not store the certificate from asking a
// CA for one. The lease stays as short as it is: it is renewed anyway while
// the process lives.
func (s *store) RenewLockLease(ctx context.Context, name string, _ time.Duration) error {
	return s.locks.renew(ctx, name)
}

// read asks the database, or the copy while the database is away.
func read[T any](ctx context.Context, s *store, k key, database, local func() (T, error)) (T, error) {
	if s.mayAsk() {
		value, err := database()
		if err = s.note(ctx, err); err == nil || !errors.Is(err, ErrUnavailable) {
			return value, err
		}
	}
	value, err := local()
	if errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(string(k), "certificates/") {
		// Whoever hears that something is not there may make it anew, and the
		// root of a CA must not be. Before a certificate comes a lock, and then
		// certmagic looks again.
		return value, fmt.Errorf("%s is not in the local copy: %w", k, ErrUnavailable)
	}
	return value, err
}

// mayAsk reports whether a read should ask the database: while it is away, one
// at a time finds out whether it is back.
func (s *store) mayAsk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away.IsZero() {
		return true
	}
	if time.Now().Before(s.retry) {
		return false
	}
	s.retry = time.Now().Add(s.pace.retry)
	return true
}

// note remembers by the outcome of a call whether the database is there, and
// marks an error that says it is not.
func (s *store) note(ctx context.Context, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || isMissing(err) {
		if !s.away.IsZero() {
			s.log().Info("the database is back", zap.Stringer("storage", s), zap.Duration("after", time.Since(s.away)))
			s.away = time.Time{}
		}
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %v", ctx.Err(), err) // the caller gave up, which says nothing
	}
	if refused := refuses(err); s.away.IsZero() || refused != s.refused {
		if s.away.IsZero() {
			s.away = time.Now()
		}
		s.refused = refused
		what := "the database is away"
		if refused {
			what = "the database refuses"
		}
		s.log().Error(what+": certificates come from the local copy, and none is obtained or renewed",
			zap.Stringer("storage", s), zap.String("copy", s.copy.files.Path), zap.Error(err))
	}
	s.retry = time.Now().Add(s.pace.retry)
	// The cause is text alone: that a socket does not exist must not pass for a
	// certificate that does not.
	return fmt.Errorf("%w: %v", ErrUnavailable, err)
}

// warn logs that the copy could not follow.
func (s *store) warn(k key, err error) {
	if err != nil {
		s.log().Warn("the local copy is incomplete", zap.String("key", string(k)), zap.Error(err))
	}
}

var (
	_ certmagic.Storage          = (*store)(nil)
	_ certmagic.TryLocker        = (*store)(nil)
	_ certmagic.LockLeaseRenewer = (*store)(nil)
)
