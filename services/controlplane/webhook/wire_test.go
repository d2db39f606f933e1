package webhook

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What a client or a proxy in front can do to the bytes themselves.
func TestOnTheWire(t *testing.T) {
	f := newFixture(t)
	mux := http.NewServeMux()
	mux.Handle(Path, f.handler)
	server := httptest.NewServer(mux)
	defer server.Close()

	m := gitHubMessage("wire", `{"ref":"refs/heads/main"}`)
	signature := "X-Hub-Signature-256: " + m.header.Get(headerGitHub) + "\r\n"
	wrong := "X-Hub-Signature-256: sha256=" + strings.Repeat("0", 64) + "\r\n"
	rest := "Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: wire\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(m.body))
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(m.body), m.body)

	for _, c := range []struct {
		name, path, head, body string
		status                 int
	}{
		{"two signatures, the wrong one first", "github", wrong + signature + rest + length, m.body, 400},
		{"two signatures, the right one first", "github", signature + wrong + rest + length, m.body, 400},
		{"two signatures in other letters", "github", signature + strings.ToLower(wrong) + rest + length, m.body, 400},
		{"two lengths", "github", signature + rest + length + "Content-Length: 2\r\n", m.body, 400},
		{"length and chunks", "github", signature + rest + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", chunked, 200},
		{"the same in chunks, with a signature behind", "github", wrong + rest + "Transfer-Encoding: chunked\r\nTrailer: X-Hub-Signature-256\r\n",
			strings.TrimSuffix(chunked, "\r\n") + signature + "\r\n", 401},
		{"folded header", "github", "X-Hub-Signature-256: sha256=\r\n " + strings.TrimPrefix(m.header.Get(headerGitHub), "sha256=") + "\r\n" + rest + length, m.body, 401},
		{"space before the colon", "github", strings.Replace(signature, ":", " :", 1) + rest + length, m.body, 400},
		{"too large, and waiting for a word", "github", signature + rest + "Expect: 100-continue\r\nContent-Length: 99999999\r\n", "", 413},
		{"another encoding of transfer", "github", signature + rest + "Transfer-Encoding: gzip, chunked\r\n", chunked, 501},
		{"dots in the path", "github/x/..", signature + rest + length, m.body, 0},
		{"encoded dots in the path", "github/%2e%2e/github", signature + rest + length, m.body, 0},
		{"backslash in the path", `github\default`, signature + rest + length, m.body, 404},
		{"as it should be", "github", signature + rest + length, m.body, 200},
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST %s%s HTTP/1.1\r\nHost: skep.example\r\nConnection: close\r\n%s\r\n%s", Path, c.path, c.head, c.body); err != nil {
			t.Fatal(err)
		}
		before := len(f.all())
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		// A cleaned path is a redirect, which no provider follows with the body.
		moved := c.status == 0 && (answer.StatusCode == http.StatusMovedPermanently || answer.StatusCode == http.StatusTemporaryRedirect || answer.StatusCode == http.StatusNotFound)
		if answer.StatusCode != c.status && !moved {
			t.Errorf("%s: %s %s", c.name, answer.Status, text)
		}
		if c.status != 200 && len(f.all()) != before {
			t.Errorf("%s: stored", c.name)
		}
		conn.Close()
	}
	if got := f.all(); len(got) != 1 || string(got[0].Body) != m.body {
		t.Errorf("stored: %+v", got)
	}
}
