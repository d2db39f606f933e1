package githubtest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"time"

	"skep/services/controlplane"
)

// Delivery is a webhook that was sent, or tried.
type Delivery struct {
	ID      string // X-GitHub-Delivery; a redelivery keeps it
	Event   string // X-GitHub-Event
	Payload []byte // as it was signed and sent
	// Status is the answer's; 0 where there was none, and Err says why.
	Status int
	Err    error

	hook *hook
}

type hook struct {
	id          int64
	repository  controlplane.Repository // empty: the App's, for all
	url, secret string
}

// Hook registers a webhook for a repository, or for all if that is empty, as an
// App's is. GitHub sends a ping at once.
func (s *Server) Hook(ctx context.Context, name controlplane.Repository, url, secret string) error {
	s.mu.Lock()
	h := &hook{id: s.id(), repository: name, url: url, secret: secret}
	payload := object{
		"zen": "Keep it logically awesome.", "hook_id": h.id,
		"hook": object{
			"type": "Repository", "id": h.id, "name": "web", "active": true, "events": []string{"push", "pull_request", "issue_comment"},
			"config":     object{"content_type": "json", "url": url, "insecure_ssl": "0", "secret": "********"},
			"updated_at": stamp(s.now()), "created_at": stamp(s.now()), "url": s.base + "hooks/1", "ping_url": s.base + "hooks/1/pings", "deliveries_url": s.base + "hooks/1/deliveries",
		},
	}
	if r := s.repositories[name]; r != nil {
		payload["repository"], payload["sender"] = s.repositoryObject(r), s.userObject(r.owner())
	}
	s.hooks = append(s.hooks, h)
	post, err := s.record(h, "ping", payload)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.deliver(ctx, []*Delivery{post})
}

// Deliveries are all that were sent, the oldest first.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Delivery, len(s.deliveries))
	for i, d := range s.deliveries {
		out[i] = *d
	}
	return out
}

// Redeliver sends one again, with the same id and bytes.
func (s *Server) Redeliver(ctx context.Context, id string) error {
	s.mu.Lock()
	var again *Delivery
	for _, d := range s.deliveries {
		if d.ID == id {
			again = d
		}
	}
	s.mu.Unlock()
	if again == nil {
		return fmt.Errorf("delivery %s: %w", id, controlplane.ErrNotFound)
	}
	return s.deliver(ctx, []*Delivery{again})
}

// Rerequest is a user's wish that a check run be run again.
func (s *Server) Rerequest(ctx context.Context, name controlplane.Repository, c controlplane.Commit, check, login string) error {
	s.mu.Lock()
	posts, err := func() ([]*Delivery, error) {
		r, err := s.find(name)
		if err != nil {
			return nil, err
		}
		for _, run := range slices.Backward(r.checks) {
			if run.SHA == c && run.Name == check {
				return s.event(r, "check_run", login, object{"action": "rerequested", "check_run": s.checkRunObject(r, run)})
			}
		}
		return nil, fmt.Errorf("check run %s: %w", check, controlplane.ErrNotFound)
	}()
	s.mu.Unlock()
	return errors.Join(err, s.deliver(ctx, posts))
}

// event records what every hook of a repository is to get.
func (s *Server) event(r *repository, name, login string, payload object) ([]*Delivery, error) {
	payload["repository"], payload["sender"] = s.repositoryObject(r), s.userObject(login)
	var posts []*Delivery
	for _, h := range s.hooks {
		if h.repository != r.name && (h.repository != "" || r.forkOf != "") { // nobody installs the App on a fork
			continue
		}
		delete(payload, "installation")
		if app := s.options.App; app != nil && h.repository == "" {
			payload["installation"] = object{"id": app.Installation, "node_id": nodeID("MDIz", app.Installation)}
		}
		post, err := s.record(h, name, payload)
		if err != nil {
			return nil, err
		}
		posts = append(posts, post)
	}
	return posts, nil
}

func (s *Server) record(h *hook, event string, payload object) (*Delivery, error) {
	content, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	d := &Delivery{ID: deliveryID(), Event: event, Payload: content, hook: h}
	s.deliveries = append(s.deliveries, d)
	return d, nil
}

// deliveryID is a UUID, version 4.
func deliveryID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// deliver sends in order, and waits for each answer, as GitHub does for ten
// seconds. An answer that is no success is the delivery's, not the caller's.
func (s *Server) deliver(ctx context.Context, posts []*Delivery) error {
	for _, d := range posts {
		status, err := post(ctx, s.options.App, d)
		s.mu.Lock()
		d.Status, d.Err = status, err
		s.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// hookshot follows no redirect.
var hookshot = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func post(ctx context.Context, app *App, d *Delivery) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.hook.url, bytes.NewReader(d.Payload))
	if err != nil {
		return 0, err
	}
	h := request.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "GitHub-Hookshot/044aadd")
	h.Set("X-GitHub-Event", d.Event)
	h.Set("X-GitHub-Delivery", d.ID)
	h.Set("X-GitHub-Hook-ID", strconv.FormatInt(d.hook.id, 10))
	h.Set("X-GitHub-Hook-Installation-Target-Type", "repository")
	if app != nil && d.hook.repository == "" {
		h.Set("X-GitHub-Hook-Installation-Target-Type", "integration")
		h.Set("X-GitHub-Hook-Installation-Target-ID", strconv.FormatInt(app.ID, 10))
	}
	if d.hook.secret != "" {
		h.Set("X-Hub-Signature", "sha1="+signature(sha1.New, d.hook.secret, d.Payload))
		h.Set("X-Hub-Signature-256", Sign(d.hook.secret, d.Payload))
	}
	response, err := hookshot.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// Sign is the value of X-Hub-Signature-256.
func Sign(secret string, payload []byte) string {
	return "sha256=" + signature(sha256.New, secret, payload)
}

func signature(h func() hash.Hash, secret string, payload []byte) string {
	mac := hmac.New(h, []byte(secret))
	mac.Write(payload)
	return hex.EncodeToString(mac.Sum(nil))
}

// pushed is a push of one branch.
func (s *Server) pushed(ctx context.Context, r *repository, b controlplane.Branch, before, after controlplane.Commit, login string) ([]*Delivery, error) {
	if len(s.hooks) == 0 {
		return nil, nil
	}
	payload := object{
		"ref": "refs/heads/" + string(b), "before": before, "after": after, "created": before == "", "deleted": after == "", "forced": false, "base_ref": nil,
		"compare": s.repoPage(r) + "/compare", "commits": []object{}, "head_commit": nil, "pusher": object{"name": login, "email": login + "@users.noreply.example.com"},
	}
	if before == "" {
		payload["before"] = none
	}
	if after == "" {
		payload["after"] = none
		return s.event(r, "push", login, payload)
	}
	head, err := s.commitObject(ctx, r, after, login)
	if err != nil {
		return nil, err
	}
	payload["head_commit"], payload["commits"] = head, []object{head}
	return s.event(r, "push", login, payload)
}

func (s *Server) commitObject(ctx context.Context, r *repository, c controlplane.Commit, login string) (object, error) {
	tree, err := s.git.tree(ctx, string(r.name), c)
	if err != nil {
		return nil, err
	}
	message, added, removed, modified, err := s.git.changed(ctx, string(r.name), c)
	if err != nil {
		return nil, err
	}
	who := object{"name": login, "email": login + "@users.noreply.example.com", "username": login}
	return object{
		"id": c, "tree_id": tree, "distinct": true, "message": message, "timestamp": stamp(s.now()), "url": s.repoPage(r) + "/commit/" + string(c),
		"author": who, "committer": who, "added": added, "removed": removed, "modified": modified,
	}, nil
}

func (s *Server) pullEvent(r *repository, p *pull, action, login string, more object) ([]*Delivery, error) {
	payload := object{"action": action, "number": p.number, "pull_request": s.pullObject(r, p)}
	for name, value := range more {
		payload[name] = value
	}
	return s.event(r, "pull_request", login, payload)
}

func (s *Server) commentEvent(r *repository, p *pull, c *comment, login string) ([]*Delivery, error) {
	return s.event(r, "issue_comment", login, object{"action": "created", "issue": s.issueObject(r, p), "comment": s.commentObject(r, p, c)})
}
