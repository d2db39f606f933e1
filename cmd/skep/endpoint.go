package main

import (
	"cmp"
	"net/http"
	"os"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/connhelper"
	"github.com/moby/moby/client"
)

// endpoint is what the client needs beside its own reading of DOCKER_HOST: ssh,
// and a stop where docker itself would talk to another engine.
func endpoint() ([]client.Opt, error) {
	host := os.Getenv(client.EnvOverrideHost)
	if host == "" {
		if name := dockerContext(); name != "default" {
			return nil, usage("docker's context is %q, and skep reads DOCKER_HOST alone", name).
				because("export DOCKER_HOST=$(docker context inspect %s --format '{{.Endpoints.docker.Host}}')", name)
		}
		return nil, nil
	}
	if !strings.HasPrefix(host, "ssh://") {
		return nil, nil
	}
	helper, err := connhelper.GetConnectionHelper(host)
	if err != nil {
		return nil, usage("DOCKER_HOST: %s", err).because("over ssh it looks like ssh://user@host, and the password is ssh's affair")
	}
	return []client.Opt{
		client.WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: helper.Dialer}}),
		client.WithHost(helper.Host),
		client.WithDialContext(helper.Dialer),
	}, nil
}

// dockerContext is the context that docker uses without DOCKER_HOST. A file that
// cannot be read names none.
func dockerContext() string {
	name := os.Getenv("DOCKER_CONTEXT")
	if file, err := config.Load(config.Dir()); err == nil {
		name = cmp.Or(name, file.CurrentContext)
	}
	return cmp.Or(name, "default")
}
