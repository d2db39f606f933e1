package ingress

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// validate has Caddy provision a configuration without running it. What
// exists on the ingress's machine alone (files, secrets) is replaced; nothing
// is dialled, and storage is a directory of the caller's.
func validate(config []byte, storage string) (err error) {
	var tree map[string]any
	if err := json.Unmarshal(config, &tree); err != nil {
		return fmt.Errorf("read Caddy's configuration: %w", err)
	}
	box := sandbox{}
	box.enter(tree)
	silence(tree)
	tree["storage"] = map[string]any{"module": "file_system", "root": storage}
	delete(tree, "admin")

	safe, err := json.Marshal(tree)
	if err != nil {
		return fmt.Errorf("write Caddy's configuration: %w", err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(safe, &cfg); err != nil {
		return fmt.Errorf("read Caddy's configuration: %w", err)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in Caddy: %v", r)
		}
	}()
	return box.redact(caddy.Validate(&cfg))
}

// machineFiles are the keys under which Caddy would open files while it
// provisions.
var machineFiles = []string{
	"load_files", "load_folders",
	"client_certificate_file", "client_certificate_key_file",
	"root_ca_pem_files", "trusted_roots_pem_files", "trusted_leaf_certs",
	"insecure_secrets_log",
}

// standInToken has the form that DNS providers check.
const standInToken = "0000000000000000000000000000000000000000"

// deadDial is a placeholder without a value: an active health check gives up
// on it before it opens a connection.
const deadDial = "{skep.offline}"

type sandbox struct {
	// credentials are literal values that Caddy might quote in an error.
	credentials []string
}

// enter rewrites a configuration in place.
func (s *sandbox) enter(node any) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			s.enter(child)
		}
	case map[string]any:
		s.rewrite(node)
		for _, child := range node {
			s.enter(child)
		}
	}
}

func (s *sandbox) rewrite(object map[string]any) {
	for _, key := range machineFiles {
		delete(object, key)
	}
	if dns, ok := object["dns"].(map[string]any); ok {
		s.standIn(dns) // the tls app's own
		if provider, ok := dns["provider"].(map[string]any); ok {
			s.standIn(provider) // a challenge's
		}
	}
	if pool, ok := object["ca"].(map[string]any); ok && pool["provider"] == "file" {
		delete(object, "ca")
	}
	if authorities, ok := object["certificate_authorities"].(map[string]any); ok {
		for _, ca := range authorities {
			if ca, ok := ca.(map[string]any); ok {
				delete(ca, "root")
				delete(ca, "intermediate")
			}
		}
	}
	switch object["handler"] {
	case "reverse_proxy":
		checks, _ := object["health_checks"].(map[string]any)
		if checks["active"] == nil {
			return
		}
		upstreams, _ := object["upstreams"].([]any)
		for _, u := range upstreams {
			if u, ok := u.(map[string]any); ok {
				u["dial"] = deadDial
			}
		}
	case "acme_server", "tracing": // open a database at home, start an exporter
		clear(object)
		object["handler"] = "subroute"
	}
}

// standIn gives a DNS provider a token of the right form where it has a
// placeholder, whose value only the ingress knows.
func (s *sandbox) standIn(provider map[string]any) {
	for key, value := range provider {
		text, ok := value.(string)
		switch {
		case !ok || key == "name":
		case strings.Contains(text, "{"):
			provider[key] = standInToken
		case text != "":
			s.credentials = append(s.credentials, text)
		}
	}
}

func (s *sandbox) redact(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, c := range s.credentials {
		text = strings.ReplaceAll(text, c, "***")
	}
	return errors.New(text)
}

// silence sends every log to nowhere, and keeps the rest of its settings.
func silence(tree map[string]any) {
	discard := map[string]any{"output": "discard"}
	logging, _ := tree["logging"].(map[string]any)
	if logging == nil {
		logging = map[string]any{}
	}
	tree["logging"] = logging
	if sink, ok := logging["sink"].(map[string]any); ok {
		sink["writer"] = discard
	}
	logs, _ := logging["logs"].(map[string]any)
	if logs == nil {
		logs = map[string]any{}
	}
	logging["logs"] = logs
	if logs["default"] == nil {
		logs["default"] = map[string]any{}
	}
	for _, log := range logs {
		if log, ok := log.(map[string]any); ok {
			log["writer"] = discard
		}
	}
}
