// Package controller is the Caddy app that keeps Caddy's sites as the labels
// in Docker want them.
package controller

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"

	"skep/services/ingress/label"
	"skep/services/ingress/route"
)

// Settings are the app's part of Caddy's configuration.
type Settings struct {
	DockerHost    string   `json:"docker_host,omitempty"` // DOCKER_HOST if empty
	Networks      []string `json:"ingress_networks,omitempty"`
	LabelPrefix   string   `json:"label_prefix,omitempty"`
	VirtualIPs    bool     `json:"virtual_ips,omitempty"`
	StoppedToo    bool     `json:"scan_stopped_containers,omitempty"`
	CaddyfilePath string   `json:"caddyfile_path,omitempty"`
	// Policy is what labels may do beside routing, see label.ParsePolicy.
	Policy string `json:"policy,omitempty"`
	// StatePath is where the last good configuration lies.
	StatePath string `json:"state_path,omitempty"`
	// Status is the address of the status page, or "off".
	Status string `json:"status,omitempty"`
	// Admin is the address of Caddy's admin API, which is off if empty. A label of
	// a trusted service may open it too.
	Admin      string         `json:"admin,omitempty"`
	Throttle   caddy.Duration `json:"throttle,omitempty"`
	TaskPoll   caddy.Duration `json:"task_poll,omitempty"`
	Resync     caddy.Duration `json:"resync,omitempty"`
	ClaimGrace caddy.Duration `json:"claim_grace,omitempty"`
	// Handover is how long what was accepted before a new configuration is served
	// by the one before. Then idle connections are closed.
	Handover caddy.Duration `json:"handover,omitempty"`
	// NoAccessLog leaves the access log off unless a label turns it on.
	NoAccessLog bool `json:"no_access_log,omitempty"`
	// Files with the pages for an unknown host and an absent upstream.
	NotFoundPage    string         `json:"not_found_page,omitempty"`
	MaintenancePage string         `json:"maintenance_page,omitempty"`
	RetryAfter      caddy.Duration `json:"retry_after,omitempty"`
}

// DefaultStatus is where the status page is, unless told otherwise.
const DefaultStatus = "127.0.0.1:2020"

const page = `<!doctype html><meta name=viewport content='width=device-width'><title>%[1]s</title>` +
	`<body style='font-family:sans-serif;max-width:30em;margin:20vh auto;padding:0 1em'><h1>%[1]s</h1><p>%[2]s</p>`

// prepared is what settings mean.
type prepared struct {
	Settings
	raw      json.RawMessage // as they were given: configurations with the same settings share a controller
	policy   label.Policy
	notFound string
	page     route.Page
}

func (s Settings) prepare() (*prepared, error) {
	p := &prepared{Settings: s, raw: s.json()}
	p.Status = cmp.Or(s.Status, DefaultStatus)
	p.StatePath = cmp.Or(s.StatePath, filepath.Join(caddy.AppDataDir(), "skep", "ingress.json"))
	p.Throttle = cmp.Or(s.Throttle, caddy.Duration(25*time.Millisecond))
	p.TaskPoll = cmp.Or(s.TaskPoll, caddy.Duration(5*time.Second))
	p.Resync = cmp.Or(s.Resync, caddy.Duration(time.Minute))
	p.ClaimGrace = cmp.Or(s.ClaimGrace, caddy.Duration(10*time.Minute))
	p.Handover = cmp.Or(s.Handover, caddy.Duration(time.Second))
	var err error
	if p.policy, err = label.ParsePolicy(s.Policy); err != nil {
		return nil, err
	}
	p.notFound = fmt.Sprintf(page, "Not found", "There is nothing at this address.")
	p.page = route.Page{
		HTML:       fmt.Sprintf(page, "Unavailable", "Back in a moment."),
		RetryAfter: time.Duration(cmp.Or(s.RetryAfter, caddy.Duration(30*time.Second))),
	}
	for path, into := range map[string]*string{s.NotFoundPage: &p.notFound, s.MaintenancePage: &p.page.HTML} {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read a page: %w", err)
		}
		*into = string(text)
	}
	return p, nil
}

// json is the settings as the app's own part of a configuration.
func (s Settings) json() json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it holds no value that JSON has not
	}
	return text
}
