package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

const (
	maxLines = 10_000 // in one call
	lastLine = 1_000_000
)

// AppendLog adds lines to a run's log. Lines carry their numbers: one that is
// there already stays as it is, so a call can be repeated. Bytes that are no
// text are replaced, and a line that is too long is cut.
func (s *Store) AppendLog(ctx context.Context, id controlplane.RunID, lines []controlplane.LogLine) error {
	action := fmt.Sprintf("append to the log of run %s", id)
	if _, err := controlplane.ParseRunID(string(id)); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if len(lines) > maxLines {
		return fmt.Errorf("%s: %w: %d lines, %d are taken", action, controlplane.ErrInvalid, len(lines), maxLines)
	}
	p := db.AppendLogParams{RunID: string(id)}
	for _, l := range lines {
		if l.N < 1 || l.N > lastLine {
			return fmt.Errorf("%s: %w: line %d, the last one that is taken is %d", action, controlplane.ErrInvalid, l.N, lastLine)
		}
		p.Ns, p.Ats = append(p.Ns, int32(l.N)), append(p.Ats, l.At)
		p.Streams, p.Lines = append(p.Streams, clean(l.Stream, 16)), append(p.Lines, clean(l.Text, maxLine))
	}
	if len(lines) == 0 {
		return nil
	}
	return s.do(ctx, action, func(q *db.Queries) error { return q.AppendLog(ctx, p) })
}

// LastLine is the number of the last line of a run's log, 0 if there is none.
func (s *Store) LastLine(ctx context.Context, id controlplane.RunID) (int, error) {
	action := fmt.Sprintf("look up the end of the log of run %s", id)
	if _, err := controlplane.ParseRunID(string(id)); err != nil {
		return 0, fmt.Errorf("%s: %w", action, err)
	}
	var last int32
	err := s.do(ctx, action, func(q *db.Queries) (err error) {
		last, err = q.LastLine(ctx, string(id))
		return err
	})
	return int(last), err
}

// ReadLog returns lines after the one of a number, in order.
func (s *Store) ReadLog(ctx context.Context, id controlplane.RunID, after, limit int) ([]controlplane.LogLine, error) {
	action := fmt.Sprintf("read the log of run %s", id)
	if _, err := controlplane.ParseRunID(string(id)); err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	var lines []controlplane.LogLine
	err := s.do(ctx, action, func(q *db.Queries) error {
		rows, err := q.ReadLog(ctx, string(id), int32(min(max(after, 0), math.MaxInt32)), Page{Limit: limit}.rows())
		lines = convert(rows, func(r db.ReadLogRow) controlplane.LogLine {
			return controlplane.LogLine{N: int(r.N), At: r.At, Stream: r.Stream, Text: r.Line}
		})
		return err
	})
	return lines, err
}

// PutArtefact keeps a file of a run, in place of one of the same name. Size and
// sum are worked out. ErrInvalid beyond MaxArtefact, or beyond MaxArtefacts for
// the run as a whole.
func (s *Store) PutArtefact(ctx context.Context, id controlplane.RunID, name, media string, content []byte) error {
	action := fmt.Sprintf("keep artefact %q of run %s", name, id)
	_, err := controlplane.ParseRunID(string(id))
	err = errors.Join(err, check(text{"the name", name, 200}, text{"the media type", media, 200}))
	if len(content) > MaxArtefact {
		err = fmt.Errorf("%w: it has %d bytes, %d are taken", controlplane.ErrInvalid, len(content), MaxArtefact)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if content == nil {
		content = []byte{}
	}
	sum := sha256.Sum256(content)
	return s.inTx(ctx, action, func(q *db.Queries) error {
		// Two at once would both see the room that is left for one.
		if _, err := q.LockRun(ctx, string(id)); err != nil {
			return err
		}
		n, err := q.PutArtefact(ctx, db.PutArtefactParams{
			RunID: string(id), Name: name, Media: media, Content: content, Sha256: sum[:], MaxBytes: MaxArtefacts,
		})
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: the run has more than %d bytes of them", controlplane.ErrInvalid, MaxArtefacts)
		}
		return err
	})
}

// Artefact is a file of a run, and its content.
func (s *Store) Artefact(ctx context.Context, id controlplane.RunID, name string) (controlplane.Artefact, []byte, error) {
	action := fmt.Sprintf("look up artefact %q of run %s", name, id)
	_, err := controlplane.ParseRunID(string(id))
	if err := errors.Join(err, check(text{"the name", name, 200})); err != nil {
		return controlplane.Artefact{}, nil, fmt.Errorf("%s: %w", action, err)
	}
	var row db.ArtefactRow
	err = s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.Artefact(ctx, string(id), name)
		return err
	})
	if err != nil {
		return controlplane.Artefact{}, nil, err
	}
	return artefact(db.ListArtefactsRow{Name: row.Name, Media: row.Media, Size: row.Size, Sha256: row.Sha256, Created: row.Created}), row.Content, nil
}

func artefact(r db.ListArtefactsRow) controlplane.Artefact {
	a := controlplane.Artefact{Name: r.Name, Media: r.Media, Size: r.Size, Created: r.Created}
	copy(a.SHA256[:], r.Sha256)
	return a
}

// ListArtefacts returns the files of a run by name.
func (s *Store) ListArtefacts(ctx context.Context, id controlplane.RunID) ([]controlplane.Artefact, error) {
	action := fmt.Sprintf("list the artefacts of run %s", id)
	if _, err := controlplane.ParseRunID(string(id)); err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	var found []controlplane.Artefact
	err := s.do(ctx, action, func(q *db.Queries) error {
		rows, err := q.ListArtefacts(ctx, string(id), maxPage)
		found = convert(rows, artefact)
		return err
	})
	return found, err
}
