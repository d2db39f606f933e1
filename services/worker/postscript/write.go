// Package postscript is what the first process of a job's container adds to the
// job's output when the command has ended: the files that the command leaves,
// and what became of it. Of a container on another node a Swarm gives nothing
// back but its exit code and its output, so it travels there, sealed, in lines
// that begin with a token that no other run knows. It links the standard library
// alone, for it runs inside jobs too.
package postscript

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"time"

	"skep/services/worker/artefact"
)

// Variables of a job's first process, which its command does not see.
const (
	TokenVariable     = "SKEP_JOB_POSTSCRIPT" // the Token; without one there is no postscript
	ArtefactsVariable = "SKEP_JOB_ARTEFACTS"  // "1": with the artefacts
	AnswerVariable    = "SKEP_JOB_ANSWER"     // "1": with what the command writes to its standard output
	DeadlineVariable  = "SKEP_JOB_DEADLINE"   // what the command may take, as in 1h30m
)

// Note says what became of a command.
type Note struct {
	Late   bool `json:"late,omitempty"`   // it was ended at its deadline
	Memory bool `json:"memory,omitempty"` // the kernel killed a process of it for want of memory
	// Begun is when the first process began, Ready when the tree was in its place,
	// Ended when the command had ended: by the clock of the job's node.
	Begun time.Time `json:"begun,omitzero"`
	Ready time.Time `json:"ready,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Left are the artefacts that are left out.
	Left []Left `json:"left,omitempty"`
	// Answer is what the command wrote to its standard output, with nothing
	// masked, up to MaxAnswer bytes; nil: nobody asked for it. The archive has it
	// in an entry of its own.
	Answer []byte `json:"-"`
}

// MaxAnswer bounds an answer.
const MaxAnswer = 16 << 20

// Left is a file that is not handed back.
type Left struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// The entries of the archive: the files, the answer if there is one, the note.
const (
	filePrefix = "files/"
	answerName = "answer"
	noteName   = "note.json"
)

// A line of a postscript is opening, the token, a space and base64, or end.
const (
	opening   = "\x1e" // record separator: seldom in text, so that little is looked at twice
	end       = "."
	lineBytes = 6 << 10 // a multiple of 3; a line stays below the 16 KiB at which engines cut
)

// Write writes a postscript with the artefacts of a tree; without any if dir is
// empty.
func Write(to io.Writer, t Token, dir string, n Note) error {
	lines := &lineWriter{to: to, token: t}
	sealed, err := newSealer(lines, t)
	if err != nil {
		return err
	}
	zipped := gzip.NewWriter(sealed)
	archive := tar.NewWriter(zipped)
	if dir != "" {
		err = artefact.Read(dir, func(name string, content []byte) error { return entry(archive, filePrefix+name, content) }, func(name, why string) error {
			n.Left = append(n.Left, Left{name, why})
			return nil
		})
	}
	if err == nil && n.Answer != nil {
		err = entry(archive, answerName, n.Answer)
	}
	note, e := json.Marshal(n)
	if err = errors.Join(err, e); err != nil {
		return err
	}
	return errors.Join(entry(archive, noteName, note), archive.Close(), zipped.Close(), sealed.Close(), lines.close())
}

func entry(archive *tar.Writer, name string, content []byte) error {
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}

// lineWriter makes lines of an archive.
type lineWriter struct {
	to    io.Writer
	token Token
	held  []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.held = append(w.held, p...)
	for len(w.held) >= lineBytes {
		if err := w.line(base64.StdEncoding.EncodeToString(w.held[:lineBytes])); err != nil {
			return 0, err
		}
		w.held = append(w.held[:0], w.held[lineBytes:]...)
	}
	return len(p), nil
}

func (w *lineWriter) close() error {
	var err error
	if len(w.held) > 0 {
		err = w.line(base64.StdEncoding.EncodeToString(w.held))
	}
	return errors.Join(err, w.line(end))
}

func (w *lineWriter) line(text string) error {
	_, err := io.WriteString(w.to, opening+string(w.token)+" "+text+"\n")
	return err
}
