package expand

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"

	"skep/generator/bundle"
)

// compose writes what the stack file says in Compose's own words, in the form
// that `docker stack deploy` takes. Keys that Swarm drops are translated where
// it has an equivalent; generator/check has refused the others.
func (b *builder) compose() {
	c := b.service.Compose
	b.set(b.origin("image", "image"), b.image(), "image")
	text := func(key, v string) {
		if v != "" {
			b.set(b.origin(key, key), v, key)
		}
	}
	list := func(key string, v []string) {
		if len(v) > 0 {
			b.set(b.origin(key, key), anyList(v), key)
		}
	}
	text("hostname", c.Hostname)
	text("user", c.User)
	text("working_dir", c.WorkingDir)
	text("stop_signal", c.StopSignal)
	text("isolation", c.Isolation)
	list("cap_add", c.CapAdd)
	list("cap_drop", c.CapDrop)
	list("dns", c.DNS)
	list("dns_search", c.DNSSearch)
	list("extra_hosts", c.ExtraHosts.AsList(":"))
	list("command", c.Command)
	list("entrypoint", c.Entrypoint)
	if c.ReadOnly {
		b.set(b.origin("read_only", "read_only"), true, "read_only")
	}
	if c.StdinOpen {
		b.set(b.origin("stdin_open", "stdin_open"), true, "stdin_open")
	}
	if c.Tty {
		b.set(b.origin("tty", "tty"), true, "tty")
	}
	if c.Init != nil {
		b.set(b.origin("init", "init"), *c.Init, "init")
	}
	if c.StopGracePeriod != nil {
		b.set(b.origin("stop_grace_period", "stop_grace_period"), span(time.Duration(*c.StopGracePeriod)), "stop_grace_period")
	}
	for _, k := range slices.Sorted(maps.Keys(c.Sysctls)) {
		b.set(b.origin("sysctls", "sysctls"), c.Sysctls[k], "sysctls", k)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		b.set(b.origin("labels", "labels", k), c.Labels[k], "labels", k)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Ulimits)) {
		u := c.Ulimits[k]
		var v any = u.Single
		if u.Single == 0 {
			v = map[string]any{"soft": u.Soft, "hard": u.Hard}
		}
		b.set(b.origin("ulimits", "ulimits", k), v, "ulimits", k)
	}
	b.logging()
	b.healthcheck()
	b.volumes()
	b.ports()
	b.objects()
}

// image pins the image to the digest that images.lock holds.
func (b *builder) image() string {
	image := b.service.Compose.Image
	if strings.Contains(image, "@") {
		return image
	}
	if locked := b.e.cluster.Images[image]; locked.Digest != "" {
		return image + "@" + locked.Digest
	}
	return image
}

func (b *builder) logging() {
	driver, options := b.e.cluster.Defaults.Logging.Driver, b.e.cluster.Defaults.Logging.Options
	origin := bundle.Origin{Pos: b.e.cluster.Positions.At("defaults", "logging"), By: "defaults.logging"}
	if l := b.service.Compose.Logging; l != nil {
		driver, options = l.Driver, l.Options
		origin = b.origin("logging", "logging")
	}
	if driver != "" {
		b.set(origin, driver, "logging", "driver")
	}
	if len(options) > 0 {
		b.set(origin, anyMap(options), "logging", "options")
	}
}

func (b *builder) healthcheck() {
	h := b.service.Compose.HealthCheck
	if h == nil {
		return
	}
	def := map[string]any{}
	if h.Disable {
		def["disable"] = true
	}
	if len(h.Test) > 0 {
		def["test"] = anyList(h.Test)
	}
	for key, d := range map[string]*types.Duration{"interval": h.Interval, "timeout": h.Timeout, "start_period": h.StartPeriod, "start_interval": h.StartInterval} {
		if d != nil {
			def[key] = span(time.Duration(*d))
		}
	}
	if h.StartInterval != nil {
		b.content["version"] = "3.12" // the first that has start_interval
	}
	if h.Retries != nil {
		def["retries"] = int(*h.Retries)
	}
	b.set(b.origin("healthcheck", "healthcheck"), def, "healthcheck")
}

func (b *builder) volumes() {
	c := b.service.Compose
	for i, v := range c.Volumes {
		origin := b.origin("volumes", "volumes", itoa(i))
		def := map[string]any{"type": v.Type, "target": v.Target}
		if v.Source != "" {
			def["source"] = v.Source
		}
		if v.ReadOnly {
			def["read_only"] = true
		}
		if v.Consistency != "" {
			def["consistency"] = v.Consistency
		}
		if v.Bind != nil && v.Bind.Propagation != "" {
			def["bind"] = map[string]any{"propagation": v.Bind.Propagation}
		}
		if v.Volume != nil && v.Volume.NoCopy {
			def["volume"] = map[string]any{"nocopy": true}
		}
		if v.Tmpfs != nil && v.Tmpfs.Size > 0 {
			def["tmpfs"] = map[string]any{"size": int(v.Tmpfs.Size)}
		}
		b.add(origin, def, "volumes")
	}
	// Swarm ignores `tmpfs` and `shm_size`; a tmpfs mount says the same.
	for i, entry := range c.Tmpfs {
		target, options, _ := strings.Cut(entry, ":")
		def := map[string]any{"type": "tmpfs", "target": target}
		for option := range strings.SplitSeq(options, ",") {
			if size, ok := strings.CutPrefix(option, "size="); ok {
				if n, err := units.RAMInBytes(size); err == nil {
					def["tmpfs"] = map[string]any{"size": int(n)}
				}
			}
		}
		b.add(b.origin("tmpfs", "tmpfs", itoa(i)), def, "volumes")
	}
	if c.ShmSize > 0 {
		b.add(b.origin("shm_size", "shm_size"), map[string]any{"type": "tmpfs", "target": "/dev/shm", "tmpfs": map[string]any{"size": int(c.ShmSize)}}, "volumes")
	}
}

func (b *builder) ports() {
	for i, p := range b.service.Compose.Ports {
		published, _ := strconv.Atoi(p.Published)
		b.port(b.origin("ports", "ports", itoa(i)), published, int(p.Target), or(p.Protocol, "tcp"), or(p.Mode, "ingress"))
	}
}

func (b *builder) port(origin bundle.Origin, published, target int, protocol, mode string) {
	def := map[string]any{"target": target, "protocol": protocol, "mode": mode}
	if published != 0 {
		def["published"] = published
	}
	b.add(origin, def, "ports")
}

// objects attaches the configs and external secrets that the file names.
func (b *builder) objects() {
	for i, c := range b.service.Compose.Configs {
		origin := b.origin("configs", "configs", itoa(i))
		object := b.stack.Configs[c.Source]
		if object.External {
			b.put(origin, map[string]any{"external": true, "name": object.Name}, "configs", c.Source)
			b.add(origin, mount(c.Source, or(c.Target, "/"+c.Source), c.UID, c.GID, fileMode(c.Mode)), "configs")
			continue
		}
		b.config(origin, object.Source, object.Content, or(c.Target, "/"+c.Source), c.UID, c.GID, fileMode(c.Mode))
	}
	for i, s := range b.service.Compose.Secrets {
		b.add(b.origin("secrets", "secrets", itoa(i)), mount(s.Source, or(s.Target, s.Source), s.UID, s.GID, fileMode(s.Mode)), "secrets")
	}
}

func fileMode(m *types.FileMode) *uint32 {
	if m == nil {
		return nil
	}
	v := uint32(*m)
	return &v
}

func mount(source, target, uid, gid string, mode *uint32) map[string]any {
	def := map[string]any{"source": source, "target": target}
	if uid != "" {
		def["uid"] = uid
	}
	if gid != "" {
		def["gid"] = gid
	}
	if mode != nil {
		def["mode"] = int(*mode)
	}
	return def
}

func anyList(in []string) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = s
	}
	return out
}

func anyMap[M ~map[string]string](in M) map[string]any {
	out := make(map[string]any, len(in))
	for k, v := range in {
		out[k] = v
	}
	return out
}

// hash is a short name for content, eight hexadecimal digits.
func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:4])
}

func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func itoa(i int) string { return strconv.Itoa(i) }

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
