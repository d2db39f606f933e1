// Package boot does for the ingress what an image's shell would do: its image
// has none.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
)

// ReadFileVariables sets NAME from the file that NAME_FILE points to, for
// every such variable of environ whose file exists and whose NAME is unset.
// One line end is cut off the file's end.
func ReadFileVariables(environ []string, set func(name, value string) error) error {
	known := map[string]bool{}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		known[name] = true
	}
	for _, e := range slices.Sorted(slices.Values(environ)) {
		variable, path, _ := strings.Cut(e, "=")
		name, ok := strings.CutSuffix(variable, "_FILE")
		if !ok || name == "" || known[name] || path == "" {
			continue
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", variable, err)
		}
		value := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
		if err := set(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// Healthcheck asks url once. A redirect is an answer, and a good one.
func Healthcheck(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("check health: %s answers %s", url, response.Status)
	}
	return nil
}
