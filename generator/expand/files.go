package expand

import (
	"cmp"
	_ "embed"
	"path"
	"slices"
	"strings"

	"skep/generator/bundle"
	"skep/generator/stack"
)

// shim reads secrets into variables and becomes the image's own program.
//
//go:embed shim.sh
var shim []byte

const shimTarget = "/skep-env"

// environment writes the variables. A reference in a variable that asks for a
// file becomes the path of the secret; any other goes through the shim.
func (b *builder) environment() {
	references := map[string]stack.SecretVariable{}
	for _, v := range b.service.References {
		references[v.Name] = v
	}
	var exports []string
	for _, name := range sortedKeys(b.service.Compose.Environment) {
		value := b.service.Compose.Environment[name]
		origin := b.origin("environment", "environment", name)
		ref, isSecret := references[name]
		switch {
		case isSecret && ref.AsFile:
			b.set(origin, b.mountSecret(ref), "environment", name)
		case isSecret:
			exports = append(exports, name+"="+b.mountSecret(ref))
		case value == nil:
			// Compose would take it from the shell that deploys; nothing does here.
		default:
			b.set(origin, *value, "environment", name)
		}
	}
	if len(exports) == 0 {
		return
	}
	origin := b.origin("op://", "environment")
	command := []string{"/bin/sh", shimTarget}
	command = append(command, exports...)
	command = append(command, "--")
	locked := b.e.cluster.Images[b.service.Compose.Image]
	switch c := b.service.Compose; {
	case len(c.Entrypoint) > 0:
		command = append(command, c.Entrypoint...)
	case len(b.service.Entrypoint) > 0:
		command = append(command, b.service.Entrypoint...)
	default:
		command = append(command, locked.Entrypoint...)
		if len(c.Command) == 0 && len(locked.Command) > 0 {
			b.set(origin, anyList(locked.Command), "command")
		}
	}
	b.set(origin, anyList(command), "entrypoint")
	mode := uint32(0o555)
	b.config(origin, "skep-env", shim, shimTarget, "", "", &mode)
}

// mountSecret gives the service the secret of a variable and returns its path.
func (b *builder) mountSecret(v stack.SecretVariable) string {
	key := b.secret(v.Value, variableSecret(b.service, v), b.service.Ref.Service)
	b.useSecret(bundle.Origin{Pos: v.Pos, By: "op://"}, key, key, "", "", nil)
	return "/run/secrets/" + key
}

// variableSecret names the secret of a variable that is more than a reference.
func variableSecret(s *stack.Service, v stack.SecretVariable) string {
	return slug(string(s.Ref.Service) + "-" + v.Name)
}

// fileSecret names the secret of a file that holds references.
func fileSecret(s *stack.Service, f stack.File) string {
	return slug(string(s.Ref.Service) + "-" + path.Base(f.Target))
}

// useSecret attaches a secret of the stack to the service, once per target.
func (b *builder) useSecret(origin bundle.Origin, key, target, uid, gid string, mode *uint32) {
	list, _ := b.get("secrets").([]any)
	for _, item := range list {
		if m, ok := item.(map[string]any); ok && m["target"] == target {
			return
		}
	}
	b.add(origin, mount(key, target, uid, gid, mode), "secrets")
}

// files mounts what x-files names: configs, or secrets where they hold
// references.
func (b *builder) files() {
	for i, f := range b.service.Files {
		origin := b.origin("x-files", "x-files", itoa(i))
		if f.Secret != nil {
			key := b.secret(*f.Secret, fileSecret(b.service, f), b.service.Ref.Service)
			b.useSecret(origin, key, f.Target, f.UID, f.GID, f.Mode)
			continue
		}
		b.config(origin, path.Base(or(f.Source, f.Target)), f.Content, f.Target, f.UID, f.GID, f.Mode)
	}
}

// config adds a file to the bundle as a Swarm config and mounts it. Configs
// cannot change, so the name follows the content.
func (b *builder) config(origin bundle.Origin, name string, content []byte, target, uid, gid string, mode *uint32) {
	key := slug(name) + "_" + hash(content)
	file := path.Join(string(b.Name), key)
	if !slices.ContainsFunc(b.extra, func(f bundle.File) bool { return f.Path == file }) {
		b.extra = append(b.extra, bundle.File{Path: file, Content: content})
	}
	full := string(b.Name) + "_" + key
	if len(full) > 64 {
		full = full[:55] + "_" + hash([]byte(full))
	}
	def := map[string]any{"file": "./" + file, "name": full}
	b.mark(def)
	b.put(origin, def, "configs", key)
	b.add(origin, mount(key, target, uid, gid, mode), "configs")
}

// mountDerived gives the services named in the cluster file what was derived
// from all stacks: blueprints and the tunnel's ingress rules.
func (b *builder) mountDerived() {
	c := b.e.cluster
	if c.SSO != nil && c.SSO.Worker != nil && *c.SSO.Worker == b.service.Ref && len(b.e.blueprint) > 0 {
		b.config(bundle.Origin{Pos: c.SSO.Pos, By: "sso.worker"}, "skep-blueprint.yaml", b.e.blueprint, "/blueprints/skep/applications.yaml", "", "", nil)
	}
	if c.Tunnel != nil && c.Tunnel.Service != nil && *c.Tunnel.Service == b.service.Ref {
		b.config(bundle.Origin{Pos: c.Tunnel.Pos, By: "tunnel.service"}, "cloudflared.yaml", b.e.tunnel, "/etc/cloudflared/config.yml", "", "", nil)
	}
}

// slug makes a name for a Swarm object: lower case letters, digits, . _ and -.
func slug(s string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	return strings.Trim(out, "-._")
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
