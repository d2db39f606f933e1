// Package txtmark keeps marks in TXT records, for zones whose records have no
// comment. The mark of sonarr.example.com is the text of _skep.sonarr.example.com,
// with fingerprints of the records that it covers, so that a record which a
// person adds to the same name is not taken for the cluster's.
package txtmark

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"skep/networks"
	"skep/services/dns"
)

const (
	label         = "_skep."
	wildcardLabel = "_skep-any."
)

// Name is where the mark of a name lies.
func Name(name string) (string, error) {
	out := label + name
	if parent, ok := strings.CutPrefix(name, "*."); ok {
		out = wildcardLabel + parent
	}
	if len(out) > 253 {
		return "", fmt.Errorf("%s is too long to be marked with a TXT record %s", name, out)
	}
	return out, nil
}

// marked is the name that a mark lies for.
func marked(name string) (string, bool) {
	if parent, ok := strings.CutPrefix(name, wildcardLabel); ok {
		return "*." + parent, true
	}
	return strings.CutPrefix(name, label)
}

// Fingerprint tells a record from others of its name.
type Fingerprint string

// Of is the fingerprint of a record's type and content.
func Of(r networks.Record) Fingerprint {
	sum := sha256.Sum256([]byte(string(r.Type) + " " + r.Content))
	return Fingerprint(strings.ToLower(string(r.Type)) + ":" + hex.EncodeToString(sum[:6]))
}

// Entry is the content of a TXT record: a mark and what it covers. While a
// record changes, it covers both its old and its new content.
type Entry struct {
	Mark   dns.Mark
	Covers []Fingerprint
}

// For is the entry of records of one name.
func For(m dns.Mark, records ...networks.Record) Entry {
	e := Entry{Mark: m}
	for _, r := range records {
		e.Covers = append(e.Covers, Of(r))
	}
	slices.Sort(e.Covers)
	e.Covers = slices.Compact(e.Covers)
	return e
}

// Text is what stands in the TXT record.
func (e Entry) Text() string {
	covers := make([]string, len(e.Covers))
	for i, f := range e.Covers {
		covers[i] = string(f)
	}
	return e.Mark.String() + " rr=" + strings.Join(covers, ",")
}

// Parse reads an entry.
func Parse(text string) (Entry, error) {
	m, ok := dns.ParseMark(text)
	if !ok {
		return Entry{}, errors.New("no mark")
	}
	e := Entry{Mark: m}
	for _, word := range strings.Fields(text) {
		if list, ok := strings.CutPrefix(word, "rr="); ok {
			for f := range strings.SplitSeq(list, ",") {
				e.Covers = append(e.Covers, Fingerprint(f))
			}
		}
	}
	return e, nil
}

// Claim takes the marks out of a list of records and puts each on the records
// that it covers. One that covers none stays, as an orphan.
func Claim(records []dns.Live) []dns.Live {
	type entry struct {
		Entry
		live dns.Live
		used bool
	}
	marks := map[string][]*entry{}
	var out []dns.Live
	for _, r := range records {
		name, ok := marked(r.Name)
		if ok && r.Type == networks.TXT {
			if e, err := Parse(r.Content); err == nil {
				marks[name] = append(marks[name], &entry{Entry: e, live: r})
				continue
			}
		}
		out = append(out, r)
	}
	for i, r := range out {
		for _, e := range marks[r.Name] {
			if slices.Contains(e.Covers, Of(r.Record)) {
				e.used = true
				out[i].Mark = &e.Mark
				break
			}
		}
	}
	for _, r := range records {
		name, _ := marked(r.Name)
		for _, e := range marks[name] {
			if !e.used && e.live.ID == r.ID && e.live.Name == r.Name && e.live.Content == r.Content {
				e.used = true
				orphan := e.live
				orphan.Name, orphan.Mark, orphan.Orphan = name, &e.Mark, true
				out = append(out, orphan)
			}
		}
	}
	return out
}
