package bundle_test

import (
	"testing"

	"github.com/docker/cli/cli/compose/loader"
	composetypes "github.com/docker/cli/cli/compose/types"
)

// dockerEnvironment reads a Compose file as `docker stack deploy` does and
// returns the variables of its service.
func dockerEnvironment(t *testing.T, content []byte) map[string]any {
	t.Helper()
	dict, err := loader.ParseYAML(content)
	if err != nil {
		t.Fatal(err)
	}
	config, err := loader.Load(composetypes.ConfigDetails{WorkingDir: "/", ConfigFiles: []composetypes.ConfigFile{{Config: dict}}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for name, value := range config.Services[0].Environment {
		out[name] = *value
	}
	return out
}
