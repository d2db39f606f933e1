package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// pluginConfig is config.json of a managed plugin.
// https://docs.docker.com/engine/extend/config/
var pluginConfig = map[string]any{
	"description":   "Secrets from 1Password Connect, by reference",
	"documentation": "https://github.com/skep-sh/skep/blob/main/docs/guides/secrets.md",
	"entrypoint":    []string{"/skep-secretdriver"},
	"workdir":       "/",
	"interface":     map[string]any{"types": []string{"docker.secretprovider/1.0"}, "socket": "skep.sock"},
	"network":       map[string]any{"type": "host"}, // Connect is outside
	"linux":         map[string]any{"capabilities": []string{}},
	// The engine's API shows the environment: token and policy come as files.
	"mounts": []any{map[string]any{
		"name": "config", "description": "op-connect-token, policy.yaml and ca.pem", "type": "bind",
		"source": "/etc/skep", "destination": "/etc/skep", "options": []string{"rbind", "ro"}, "settable": []string{"source"},
	}},
	"env": []any{
		variable("OP_CONNECT_HOST", "", "address of 1Password Connect"),
		variable("OP_CONNECT_TOKEN_FILE", "/etc/skep/op-connect-token", "file with the access token"),
		variable("POLICY", "/etc/skep/policy.yaml", "file that says which service may have what, or labels"),
		variable("TIMEOUT", "5s", "for one secret"),
		variable("CACHE", "0s", "how long values are kept in memory; 0s for never"),
		// The plugin's root file system has no others.
		variable("SSL_CERT_FILE", "/etc/skep/ca.pem", "certificate authorities for a Connect behind https"),
	},
}

func variable(name, value, description string) map[string]any {
	return map[string]any{"name": name, "value": value, "description": description, "settable": []string{"value"}}
}

// writePlugin writes what docker plugin create takes: the configuration and a
// root file system of this binary, which must be static.
func writePlugin(dir string) error {
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"etc/skep", "run/docker/plugins", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	config, err := json.MarshalIndent(pluginConfig, "", "  ")
	if err != nil {
		return fmt.Errorf("encode config.json: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(config, '\n'), 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return copyFile(self, filepath.Join(root, "skep-secretdriver"))
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	_, err = io.Copy(out, in)
	return err
}
