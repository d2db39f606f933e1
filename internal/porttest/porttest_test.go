package porttest

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		a := Address(t)
		if seen[a] {
			t.Fatalf("%s is given twice", a)
		}
		seen[a] = true
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}

// asOther makes this binary a process that wants a port.
const asOther = "SKEP_PORTTEST_PORT"

// A port that nobody listens on yet is no other process's.
func TestClaim(t *testing.T) {
	if wanted := os.Getenv(asOther); wanted != "" {
		port, err := strconv.Atoi(wanted)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := claim(port); err != nil {
			t.Fatal(err)
		}
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("ports are claimed on Linux alone")
	}
	_, port, err := net.SplitHostPort(Address(t))
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestClaim$")
	other.Env = append(os.Environ(), asOther+"="+port)
	if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("another process: %v\n%s", err, out)
	}
}
