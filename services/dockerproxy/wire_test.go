package dockerproxy

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// wireEnv opens little, so that much is refused.
var wireEnv = []string{"CONTAINERS=1", "ALLOW=POST /services/{id}/update"}

// mayPass is the direct matcher: the requests that wireEnv opens, in the one
// spelling in which the engine may see them.
var mayPass = regexp.MustCompile(`^(GET|HEAD) (/v1\.[0-9]{1,3})?/(_ping|version|events|containers/json|containers/[A-Za-z0-9_.:@+-]+/(json|top|stats|changes))$` +
	`|^POST (/v1\.[0-9]{1,3})?/services/[A-Za-z0-9_.:@+-]+/update$`)

// last is the request after the bytes of a test. It ends the connection, so
// that the end of the answers is known, unless the bytes swallow it.
const last = "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"

// wire sends bytes and waits for the end of the answers. A client that closes its
// half is gone, for the proxy: what it asked for must have been done by then.
func wire(t testing.TB, address, bytes string, patience time.Duration) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, bytes+last) // the proxy may hang up in the middle
	var answer []byte
	buffer := make([]byte, 4096)
	// Swallowed, the last request ends nothing: then half of the connection
	// is closed, which ends whatever waits for more.
	c.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := c.Read(buffer)
		answer = append(answer, buffer[:n]...)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			c.(*net.TCPConn).CloseWrite()
			c.SetReadDeadline(time.Now().Add(time.Minute))
			rest, err := io.ReadAll(c)
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Fatalf("%q: no end of the answer", bytes)
			}
			return string(append(answer, rest...))
		}
		if err != nil {
			return string(answer)
		}
	}
}

func checkSeen(t testing.TB, sent string, saw []string) {
	t.Helper()
	for _, request := range saw {
		if !mayPass.MatchString(request) || strings.Contains(request, "/../") || strings.Contains(request, "/./") {
			t.Errorf("%q: the engine saw %q", sent, request)
		}
	}
}

func TestWire(t *testing.T) {
	engine := startWitness(t)
	address := serve(t, engine.socket, io.Discard, wireEnv...)
	const host = " HTTP/1.1\r\nHost: d\r\n"
	tests := []struct {
		name, sent string
		saw        []string
	}{
		{"plain", "GET /containers/json" + host + "\r\n", []string{"GET /containers/json"}},
		{"two on a connection", "GET /version" + host + "\r\nGET /containers/x/json" + host + "\r\n", []string{"GET /version", "GET /containers/x/json"}},
		{"a refused one does not spoil the next", "GET /secrets" + host + "\r\nGET /version" + host + "\r\n", []string{"GET /version"}},
		{"both lengths, chunks first", "POST /services/x/update" + host + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secrets" + host + "\r\n", []string{"POST /services/x/update"}},
		{"both lengths, the other order", "POST /services/x/update" + host + "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\nGET /secrets" + host + "\r\n", []string{"POST /services/x/update"}},
		{"a request in a body", "POST /services/x/update" + host + "Content-Length: 40\r\n\r\n" + fmt.Sprintf("%-40s", "GET /secrets HTTP/1.1\r\nHost: d\r\n\r\n"), []string{"POST /services/x/update"}},
		{"a request in a GET's body", "GET /version" + host + "Content-Length: 40\r\n\r\n" + fmt.Sprintf("%-40s", "GET /secrets HTTP/1.1\r\nHost: d\r\n\r\n"), nil},
		{"two lengths", "POST /services/x/update" + host + "Content-Length: 0\r\nContent-Length: 40\r\n\r\nGET /secrets" + host + "\r\n", nil},
		{"a length with a sign", "POST /services/x/update" + host + "Content-Length: +0\r\n\r\n", nil},
		{"an unknown coding", "POST /services/x/update" + host + "Transfer-Encoding: xchunked\r\n\r\nGET /secrets" + host + "\r\n", nil},
		{"two codings", "POST /services/x/update" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", nil},
		{"a space before the colon", "POST /services/x/update" + host + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", nil},
		{"a folded header", "GET /version" + host + "X: a\r\n GET /secrets HTTP/1.1\r\n\r\n", []string{"GET /version"}},
		{"no host", "GET /version HTTP/1.1\r\n\r\n", nil},
		{"an old version", "GET /version HTTP/1.0\r\n\r\n", []string{"GET /version"}},
		{"no version", "GET /version\r\n\r\n", nil},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nil},
		{"a tab in the line", "GET\t/version\tHTTP/1.1\r\nHost: d\r\n\r\n", nil},
		{"a space in the path", "GET /version /secrets" + host + "\r\n", nil},
		{"a NUL in the path", "GET /containers/x\x00/json" + host + "\r\n", nil},
		{"an absolute URI", "GET http://d/containers/json" + host + "\r\n", nil},
		{"a socket's URI", "GET unix:///containers/json" + host + "\r\n", nil},
		{"two slashes as a host", "GET //containers/json" + host + "\r\n", nil},
		{"an encoded slash", "GET /containers%2fjson" + host + "\r\n", nil},
		{"encoded dots", "GET /containers/%2e%2e/secrets" + host + "\r\n", nil},
		{"dots encoded twice", "GET /containers/%252e%252e/json" + host + "\r\n", nil},
		{"overlong dots", "GET /containers/%c0%ae%c0%ae/json" + host + "\r\n", nil},
		{"backslashes", `GET /containers/..\..\secrets` + host + "\r\n", nil},
		{"an encoded letter", "GET /containers/%77eb/json" + host + "\r\n", []string{"GET /containers/web/json"}},
		{"another case", "GET /CONTAINERS/json" + host + "\r\n", nil},
		{"a path in the query", "GET /containers/json?/../../secrets" + host + "\r\n", []string{"GET /containers/json"}},
		{"an encoded question mark", "GET /containers/x%3f/json" + host + "\r\n", nil},
		{"a fragment", "GET /containers/json#/../secrets" + host + "\r\n", nil},
		{"two versions", "GET /v1.41/v1.41/containers/json" + host + "\r\n", nil},
		{"a version of its own", "GET /v1.41.1/containers/json" + host + "\r\n", nil},
		{"another method by header", "GET /containers/json" + host + "X-HTTP-Method-Override: DELETE\r\n\r\n", []string{"GET /containers/json"}},
		{"another path by header", "GET /containers/json" + host + "X-Original-URL: /secrets\r\nX-Rewrite-URL: /secrets\r\n\r\n", []string{"GET /containers/json"}},
		{"a method in lower case", "get /containers/json" + host + "\r\n", nil},
		{"an upgrade", "GET /containers/json" + host + "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nGET /secrets" + host + "\r\n", nil},
		{"an upgrade to HTTP/2", "GET /version" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", nil},
		{"a tunnel", "CONNECT /containers/json" + host + "\r\n", nil},
		{"a tunnel to the engine", "CONNECT docker:2375" + host + "\r\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			engine.take()
			answer := wire(t, address, test.sent, time.Minute)
			saw := engine.take()
			checkSeen(t, test.sent, saw)
			saw = slices.DeleteFunc(saw, func(request string) bool { return request == "GET /_ping" })
			if fmt.Sprint(saw) != fmt.Sprint(test.saw) {
				t.Errorf("the engine saw %q, want %q; the answer is %.200q", saw, test.saw, answer)
			}
		})
	}
}

// FuzzWire holds that whatever bytes a client sends, the engine sees none but
// open requests in their plain spelling.
func FuzzWire(f *testing.F) {
	engine := startWitness(f)
	address := serve(f, engine.socket, io.Discard, wireEnv...)
	for _, seed := range []string{
		"GET /containers/json HTTP/1.1\r\nHost: d\r\n\r\n", "GET /containers/../secrets HTTP/1.1\r\nHost: d\r\n\r\n", "GET http://d/secrets HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /v1.41/containers/%2e%2e/%2E%2e/secrets?x=/.. HTTP/1.1\r\nHost: d\r\n\r\n", "GET /containers%2Fx%2f../json HTTP/1.0\r\n\r\n",
		"POST /services/x/update HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET /secrets HTTP/1.1\r\nHost: d\r\n\r\n",
		"POST /services/x/update HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}DELETE /services/x HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/x/attach/ws HTTP/1.1\r\nHost: d\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: d\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /containers/a;/../json HTTP/1.1\nHost: d\n\n", "HEAD /containers/json/.. HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		engine.take()
		wire(t, address, string(sent), 200*time.Millisecond)
		checkSeen(t, string(sent), engine.take())
	})
}
