// Package frame adapts sites to Caddy's configuration, one by one. What a site
// does with a request becomes routes that are swapped alone; what concerns
// listeners, certificates and logs goes into the frame, the configuration that
// Caddy loads as a whole.
package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"skep/services/ingress/label"
	_ "skep/services/ingress/modules" // every directive
	"skep/services/ingress/route"
)

// Part is one site, adapted.
type Part struct {
	ID     label.SiteID
	Routes route.Routes
	// Outline tells frames apart: two parts with the same one make the same frame.
	Outline string

	blocks []caddyfile.ServerBlock // what the frame says of the site
	named  map[string]json.RawMessage
	// whole is set when the site cannot be split: all of it is in the frame.
	whole bool
}

// Adapter adapts sites and remembers them by their content.
type Adapter struct {
	Policy label.Policy

	known  map[string]*adapted
	used   map[string]bool
	counts map[string]int // blocks by text

	scratch []byte // of content
}

type adapted struct {
	part *Part
	fail *failure
}

// failure is a refusal before it knows whose label it is.
type failure struct {
	rule   label.Rule
	needle string // text to look for in the labels
	err    error
}

// Part adapts a site, or says why not.
func (a *Adapter) Part(globals string, s *label.Site) (*Part, *label.Refusal) {
	key := a.content(globals, s)
	if a.known == nil {
		a.known = map[string]*adapted{}
	}
	if a.used == nil {
		a.used = map[string]bool{}
	}
	a.used[key] = true
	done := a.known[key]
	if done == nil {
		part, fail := a.adapt(globals, s)
		done = &adapted{part, fail}
		a.known[key] = done
	}
	if done.fail == nil {
		return done.part, nil
	}
	source, at := s.LabelOf(done.fail.needle)
	if done.fail.needle == "" {
		at = ""
	}
	return nil, &label.Refusal{
		Stack: s.Stack, Source: source.Name, ID: source.ID, Site: string(s.ID), Label: at,
		Rule: done.fail.rule, Reason: done.fail.err.Error(),
	}
}

// Sweep forgets what was not used since the last sweep.
func (a *Adapter) Sweep() {
	for key := range a.known {
		if !a.used[key] {
			delete(a.known, key)
		}
	}
	a.used, a.counts = map[string]bool{}, nil
}

// content names a site with all that it is made of.
func (a *Adapter) content(globals string, s *label.Site) string {
	all := a.scratch[:0]
	for _, text := range []string{string(s.ID), string(s.Stack), globals, s.Prelude, s.Granted, s.Text} {
		all = append(strconv.AppendInt(all, int64(len(text)), 10), '\n')
		all = append(all, text...)
	}
	a.scratch = strconv.AppendBool(all, s.Trusted)
	sum := sha256.Sum256(a.scratch)
	return string(sum[:])
}

// outlined are the directives that configure more than the handling of a
// request. A site with another such directive is kept whole.
var outlined = []string{"tls", "bind", "log"}

func (a *Adapter) adapt(globals string, s *label.Site) (part *Part, fail *failure) {
	defer func() {
		if r := recover(); r != nil {
			part, fail = nil, &failure{rule: label.RuleAdapt, err: fmt.Errorf("panic in Caddy's adapter: %v", r)}
		}
	}()
	blocks, fail := a.parse(globals, s)
	if fail != nil {
		return nil, fail
	}
	site := blocks[len(blocks)-1]
	full, err := setup(blocks)
	if err != nil {
		return nil, adaptFailure(err)
	}
	if !s.Trusted {
		if fail := inspect(full, blocks, s, a.Policy); fail != nil {
			return nil, fail
		}
		ownZones(full.tree, s.Stack)
	}
	part = &Part{ID: s.ID}
	thin := site
	thin.Segments = outline(site, s.ID)
	splits, err := splittable(full, blocks, thin)
	if err != nil {
		return nil, adaptFailure(err)
	}
	part.Routes, part.named = full.routes()
	if splits {
		part.blocks = []caddyfile.ServerBlock{thin}
	} else {
		part.whole, part.blocks = true, blocks
		part.Routes = route.Routes{}
		if len(globals) > 0 {
			part.blocks = blocks[1:]
		}
	}
	part.Outline = part.fingerprint()
	return part, nil
}

// routed are the directives that are known to do nothing but handle requests.
var routed = []string{
	"abort", "basic_auth", "encode", "error", "forward_auth", "handle", "handle_errors", "handle_path", "header", "invoke", "method",
	"rate_limit", "redir", "request_body", "request_header", "respond", "reverse_proxy", "rewrite", "root", "route", "uri", "vars",
}

// splittable reports whether the frame is the same when one handler stands for
// the site's own.
func splittable(full *document, blocks []caddyfile.ServerBlock, thin caddyfile.ServerBlock) (bool, error) {
	known := func(s caddyfile.Segment) bool {
		d := s.Directive()
		return strings.HasPrefix(d, "@") || slices.Contains(outlined, d) || slices.Contains(routed, d)
	}
	site := blocks[len(blocks)-1]
	if !slices.ContainsFunc(site.Segments, func(s caddyfile.Segment) bool { return !known(s) }) {
		return true, nil
	}
	alone, err := setup(append(slices.Clone(blocks[:len(blocks)-1]), thin))
	if err != nil {
		return false, err
	}
	return reflect.DeepEqual(full.without(), alone.without()), nil
}

// outline keeps what configures the frame and lets one handler stand for the
// rest.
func outline(site caddyfile.ServerBlock, id label.SiteID) []caddyfile.Segment {
	var out []caddyfile.Segment
	for _, segment := range site.Segments {
		if slices.Contains(outlined, segment.Directive()) {
			out = append(out, segment)
		}
	}
	stand := []caddyfile.Token{{File: fileName, Line: 1, Text: route.Directive}, {File: fileName, Line: 1, Text: string(id)}}
	return append(out, stand)
}

func (p *Part) fingerprint() string {
	h := sha256.New()
	for _, b := range p.blocks {
		for _, k := range b.Keys {
			fmt.Fprintf(h, "k%d:%s", len(k.Text), k.Text)
		}
		for _, s := range b.Segments {
			for _, t := range s {
				fmt.Fprintf(h, "t%d,%d:%s", t.Line, len(t.Text), t.Text)
			}
		}
	}
	for _, name := range sorted(p.named) {
		fmt.Fprintf(h, "n%s:%s", name, p.named[name])
	}
	fmt.Fprint(h, p.whole, len(p.Routes.Errors) > 0 && p.whole)
	return hex.EncodeToString(h.Sum(nil))
}

// parse reads a site with the global options and its snippets. Nothing but the
// site may come out of the site's text.
func (a *Adapter) parse(globals string, s *label.Site) ([]caddyfile.ServerBlock, *failure) {
	before, err := a.count(globals + s.Prelude)
	if err != nil {
		return nil, adaptFailure(err)
	}
	all, err := read(globals + s.Prelude + s.Text)
	if err != nil {
		return nil, adaptFailure(err)
	}
	if len(all) != before+1 {
		return nil, &failure{rule: label.RuleSyntax, err: fmt.Errorf("the labels make %d sites instead of one", len(all)-before)}
	}
	var want []string
	for _, key := range s.Keys {
		for address := range strings.SplitSeq(key, ",") {
			if address != "" {
				want = append(want, address)
			}
		}
	}
	site := all[len(all)-1]
	if !slices.Equal(site.GetKeysText(), want) || site.IsNamedRoute {
		return nil, &failure{rule: label.RuleSyntax, err: fmt.Errorf("the labels make the site %q instead of %q", site.GetKeysText(), want)}
	}
	return all, nil
}

// count counts the blocks of what comes before a site, which many sites share.
func (a *Adapter) count(text string) (int, error) {
	if n, ok := a.counts[text]; ok {
		return n, nil
	}
	blocks, err := read(text)
	if err != nil {
		return 0, err
	}
	if a.counts == nil {
		a.counts = map[string]int{}
	}
	a.counts[text] = len(blocks)
	return len(blocks), nil
}

// fileName is what caddy-docker-proxy's adapter calls what it reads.
const fileName = "Caddyfile"

// read parses a Caddyfile; Caddy's own parser fails on an empty one.
func read(text string) ([]caddyfile.ServerBlock, error) {
	if text == "" {
		return nil, nil
	}
	return caddyfile.Parse(fileName, []byte(text))
}

func adaptFailure(err error) *failure {
	err = Plain(err)
	return &failure{rule: label.RuleAdapt, needle: quoted(err.Error()), err: err}
}

// quoted is the last word of an error that it quotes or ends with, likely from
// a label.
func quoted(text string) string {
	for _, mark := range []string{"'", `"`, "`"} {
		if parts := strings.Split(text, mark); len(parts) >= 3 && parts[len(parts)-2] != "" {
			// A module's name ends with the word that a Caddyfile has for it.
			words := strings.Split(parts[len(parts)-2], "providers.")
			return words[len(words)-1]
		}
	}
	if _, word, ok := strings.Cut(text, "unrecognized directive: "); ok {
		if words := strings.Fields(word); len(words) > 0 {
			return words[0]
		}
	}
	return ""
}

// setup runs Caddy's Caddyfile compiler on a copy of the blocks, which it
// changes.
func setup(blocks []caddyfile.ServerBlock) (*document, error) {
	copied := make([]caddyfile.ServerBlock, len(blocks))
	for i, b := range blocks {
		copied[i] = b
		copied[i].Segments = make([]caddyfile.Segment, len(b.Segments))
		for j, s := range b.Segments {
			copied[i].Segments[j] = slices.Clone(s)
		}
	}
	config, _, err := httpcaddyfile.ServerType{}.Setup(copied, map[string]any{})
	if err != nil {
		return nil, err
	}
	return decode(config)
}

func decode(config *caddy.Config) (*document, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write Caddy's configuration: %w", err)
	}
	d := &document{}
	reader := json.NewDecoder(bytes.NewReader(text))
	reader.UseNumber()
	if err := reader.Decode(&d.tree); err != nil {
		return nil, fmt.Errorf("read Caddy's configuration: %w", err)
	}
	if d.tree == nil {
		return nil, errors.New("the configuration is empty")
	}
	return d, nil
}
