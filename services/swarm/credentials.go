package swarm

import (
	"fmt"
	"sync"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
)

// Credentials are what `docker login` stored, in docker's configuration file or
// with the helper that it names. They do not print.
type Credentials struct {
	file *configfile.ConfigFile

	mu    sync.Mutex
	known map[string]string // by registry, as the header has it; a helper is a process
}

// LoadCredentials reads the configuration file in a folder, or where docker
// looks for it when the folder is empty.
func LoadCredentials(dir string) (*Credentials, error) {
	if dir == "" {
		dir = config.Dir()
	}
	file, err := config.Load(dir)
	if err != nil {
		return nil, err
	}
	if !file.ContainsAuth() {
		file.CredentialsStore = credentials.DetectDefaultStore(file.CredentialsStore)
	}
	return &Credentials{file: file, known: map[string]string{}}, nil
}

// Format writes no credentials, whatever the verb.
func (c *Credentials) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[redacted]") }

// header is the X-Registry-Auth header for an image, empty when there was no
// login to its registry.
func (c *Credentials) header(image string) (string, error) {
	if c == nil {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", image, err)
	}
	domain := reference.Domain(named)
	c.mu.Lock()
	defer c.mu.Unlock()
	if header, ok := c.known[domain]; ok {
		return header, nil
	}
	login, err := c.file.GetAuthConfig(domain)
	if err != nil {
		return "", fmt.Errorf("credentials for %s: %w", domain, err)
	}
	header := ""
	if login != (types.AuthConfig{}) {
		header, err = authconfig.Encode(registry.AuthConfig{
			Username: login.Username, Password: login.Password, Auth: login.Auth, ServerAddress: login.ServerAddress,
			IdentityToken: login.IdentityToken, RegistryToken: login.RegistryToken,
		})
		if err != nil {
			return "", fmt.Errorf("credentials for %s: %w", domain, err)
		}
	}
	c.known[domain] = header
	return header, nil
}
