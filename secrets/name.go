package secrets

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

var (
	slugGaps  = regexp.MustCompile(`[^a-z0-9_-]+`)
	swarmGaps = regexp.MustCompile(`[^a-zA-Z0-9_.-]+`)

	// swarmName is what Swarm takes for secrets and configs.
	// https://github.com/moby/swarmkit/blob/master/manager/controlapi/common.go
	swarmName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?$`)
)

const maxSwarmName = 64

// Slug is a readable base for a Swarm object's name, "<item>-<field>" in
// [a-z0-9_-]. It is not unique: vault, section and query are left out.
func (r Reference) Slug() string {
	slug := slugGaps.ReplaceAllString(strings.ToLower(r.Item+"-"+r.Field), "-")
	if slug = strings.Trim(slug, "-_"); slug == "" {
		return "secret"
	}
	return slug
}

// SecretName is the name of a Swarm secret or config, "<stack>_<base>", with
// "_v<version>" unless version is empty. A name that Swarm would refuse is made
// fit and ends in a hash of the whole, so it stays unique and stable.
func SecretName(stack, base, version string) string {
	name := stack + "_" + base
	if version != "" {
		name += "_v" + version
	}
	if len(name) <= maxSwarmName && swarmName.MatchString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:4])
	fit := strings.TrimLeft(swarmGaps.ReplaceAllString(name, "-"), "-_.")
	fit = strings.TrimRight(fit[:min(len(fit), maxSwarmName-len(hash)-1)], "-_.")
	if fit == "" {
		return hash
	}
	return fit + "_" + hash
}
