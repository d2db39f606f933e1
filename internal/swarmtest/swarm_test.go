package swarmtest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestIngress(t *testing.T) {
	s := Start(t)
	for _, name := range []string{"skep-dockerproxy", "skep-ingress", "whoami"} {
		if err := s.Import(name+":test", Binary(t, "skep/cmd/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Deploy("testdata/ingress.yaml", "infra"); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitRunning("infra", 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	err := Poll(3*time.Minute, func() error {
		status, body, err := s.HTTP("whoami.example.com", "/path")
		if err == nil && (status != 200 || !strings.Contains(body, "Host: whoami.example.com\n")) {
			err = fmt.Errorf("got %d %q", status, body)
		}
		return err
	})
	if err != nil {
		for _, service := range []string{"docker-proxy", "ingress", "whoami"} {
			logs, _ := s.Docker("service", "logs", "--raw", "infra_"+service)
			t.Logf("%s:\n%s", service, logs)
		}
		t.Fatal(err)
	}
}

func TestConverged(t *testing.T) {
	for services, want := range map[string]bool{
		"a_web 1/1\na_db 3/3\n":                true,
		"a_job 0/1 (1/1 completed)":            true,
		"a_web 1/1 (max 1 per node)":           true,
		"a_web 0/1":                            false,
		"a_web 1/1\na_job 1/1 (0/1 completed)": false,
		"":                                     false,
	} {
		if err := converged(services); (err == nil) != want {
			t.Errorf("%q: got %v, want converged %v", services, err, want)
		}
	}
}
