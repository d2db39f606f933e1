package githubtest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"skep/services/controlplane"
	"skep/services/controlplane/integration/github/githubtest"
)

const (
	repo  = controlplane.Repository("octo/homelab")
	token = "ghp_0123456789"
)

var newKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func start(t *testing.T) *githubtest.Server {
	t.Helper()
	s, err := githubtest.Start(t.Context(), githubtest.Options{
		Folder: t.TempDir(), User: &githubtest.User{Login: "skep-user", Token: token},
		App: &githubtest.App{ID: 7, Slug: "skep", Key: &newKey().PublicKey, Installation: 9, Permissions: map[string]string{"contents": "read", "checks": "write"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.CreateRepository(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	return s
}

// call makes a request as whoever the credentials say.
func call(t *testing.T, s *githubtest.Server, method, path, credentials string, body any) (int, http.Header, map[string]any) {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "test")
	if credentials != "" {
		request.Header.Set("Authorization", "Bearer "+credentials)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := map[string]any{}
	raw, err := io.ReadAll(response.Body)
	if err == nil && len(raw) > 0 && raw[0] == '{' {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, answer
}

func claims(change func(*jwt.RegisteredClaims)) jwt.RegisteredClaims {
	now := time.Now()
	c := jwt.RegisteredClaims{Issuer: "7", IssuedAt: jwt.NewNumericDate(now.Add(-time.Minute)), ExpiresAt: jwt.NewNumericDate(now.Add(5 * time.Minute))}
	if change != nil {
		change(&c)
	}
	return c
}

func sign(t *testing.T, method jwt.SigningMethod, key any, c jwt.Claims) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// TestJWT: nothing but RS256 by the App's key, within its times, gets a token.
func TestJWT(t *testing.T) {
	s := start(t)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&newKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := sign(t, jwt.SigningMethodRS256, newKey(), claims(nil))
	rs := func(change func(*jwt.RegisteredClaims)) string {
		return sign(t, jwt.SigningMethodRS256, newKey(), claims(change))
	}
	parts := strings.Split(good, ".")
	forged := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"8","iat":1,"exp":99999999999}`))
	in := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }
	for name, assertion := range map[string]string{
		"none":          sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil)),
		"HS256":         sign(t, jwt.SigningMethodHS256, public, claims(nil)), // the public key as a shared secret
		"HS256 of DER":  sign(t, jwt.SigningMethodHS256, der, claims(nil)),
		"RS384":         sign(t, jwt.SigningMethodRS384, newKey(), claims(nil)),
		"PS256":         sign(t, jwt.SigningMethodPS256, newKey(), claims(nil)),
		"stranger":      sign(t, jwt.SigningMethodRS256, stranger, claims(nil)),
		"other claims":  parts[0] + "." + forged + "." + parts[2],
		"no signature":  parts[0] + "." + parts[1] + ".",
		"expired":       rs(func(c *jwt.RegisteredClaims) { c.ExpiresAt = in(-time.Second) }),
		"too long":      rs(func(c *jwt.RegisteredClaims) { c.ExpiresAt = in(11 * time.Minute) }),
		"no end":        rs(func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil }),
		"of the future": rs(func(c *jwt.RegisteredClaims) { c.IssuedAt = in(time.Minute) }),
		"no beginning":  rs(func(c *jwt.RegisteredClaims) { c.IssuedAt = nil }),
		"another App":   rs(func(c *jwt.RegisteredClaims) { c.Issuer = "8" }),
		"no issuer":     rs(func(c *jwt.RegisteredClaims) { c.Issuer = "" }),
		"nonsense":      "a.b.c",
	} {
		if status, _, _ := call(t, s, "POST", "app/installations/9/access_tokens", assertion, nil); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	for name, test := range map[string]struct {
		credentials, path string
		body              any
		want              int
	}{
		"good":                 {good, "9", nil, 201},
		"other installation":   {good, "8", nil, 404},
		"a user":               {token, "9", nil, 401},
		"nobody":               {"", "9", nil, 401},
		"unknown repository":   {good, "9", map[string]any{"repositories": []string{"homelab", "nothing"}}, 422},
		"too much":             {good, "9", map[string]any{"permissions": map[string]string{"contents": "write"}}, 422},
		"another permission":   {good, "9", map[string]any{"permissions": map[string]string{"administration": "read"}}, 422},
		"what it has, or less": {good, "9", map[string]any{"repositories": []string{"homelab"}, "permissions": map[string]string{"checks": "read"}}, 201},
	} {
		if status, _, answer := call(t, s, "POST", "app/installations/"+test.path+"/access_tokens", test.credentials, test.body); status != test.want {
			t.Errorf("%s: %d %v; want %d", name, status, answer, test.want)
		}
	}
}

// TestScope: an installation token is for its repositories and permissions.
func TestScope(t *testing.T) {
	s := start(t)
	if err := s.CreateRepository(t.Context(), "octo/other"); err != nil {
		t.Fatal(err)
	}
	c, err := s.Push(t.Context(), repo, "main", "ada", map[string]githubtest.File{"a": {Content: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	jwt := sign(t, jwt.SigningMethodRS256, newKey(), claims(nil))
	_, _, answer := call(t, s, "POST", "app/installations/9/access_tokens", jwt, map[string]any{"repositories": []string{"homelab"}, "permissions": map[string]string{"contents": "read"}})
	narrow, _ := answer["token"].(string)
	run := map[string]any{"name": "x", "head_sha": c}
	for name, test := range map[string]struct {
		method, path, credentials string
		body                      any
		want                      int
	}{
		"read":                 {"GET", "repos/octo/homelab/git/ref/heads/main", narrow, nil, 200},
		"other repository":     {"GET", "repos/octo/other", narrow, nil, 404},
		"no such permission":   {"POST", "repos/octo/homelab/check-runs", narrow, run, 403},
		"checks of a user":     {"POST", "repos/octo/homelab/check-runs", token, run, 403},
		"JWT for a repository": {"GET", "repos/octo/homelab/git/ref/heads/main", jwt, nil, 401},
		"nobody":               {"GET", "repos/octo/homelab", "", nil, 401},
		"wrong token":          {"GET", "repos/octo/homelab", "ghs_x", nil, 401},
		"who am I":             {"GET", "user", narrow, nil, 403},
		"path":                 {"GET", "repos/octo/homelab/../other", token, nil, 404},
		"no route":             {"GET", "repos/octo/homelab/secrets", token, nil, 404},
		"wrong method":         {"DELETE", "repos/octo/homelab", token, nil, 404},
	} {
		if status, _, answer := call(t, s, test.method, test.path, test.credentials, test.body); status != test.want {
			t.Errorf("%s: %d %v; want %d", name, status, answer, test.want)
		}
	}
	_, header, _ := call(t, s, "GET", "repos/octo/homelab/tarball/"+string(c), token, nil)
	for range 2 {
		response, err := http.Get(header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode == 200 != bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
			t.Errorf("%d with %d bytes, %v", response.StatusCode, len(content), err)
		}
		if again := response.StatusCode == 200; again && !slices.Contains([]string{""}, response.Header.Get("Set-Cookie")) {
			t.Error("a cookie")
		}
	}
}

// inbox keeps what webhooks bring.
type inbox struct {
	mu   sync.Mutex
	got  []*http.Request
	body [][]byte
	code int
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got, i.body = append(i.got, r), append(i.body, body)
	w.WriteHeader(i.code)
}

// TestWebhooks plays a pull request's life.
func TestWebhooks(t *testing.T) {
	s := start(t)
	box := &inbox{code: http.StatusOK}
	server := httptest.NewServer(box)
	defer server.Close()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	push := func(r controlplane.Repository, b controlplane.Branch, content string) controlplane.Commit {
		t.Helper()
		c, err := s.Push(ctx, r, b, "ada", map[string]githubtest.File{"a file": {Content: content}, "bin/run": {Content: "#!", Mode: "100755"}})
		must(err)
		return c
	}
	must(s.Hook(ctx, repo, server.URL, "s3cret"))
	must(s.Hook(ctx, "", server.URL, "s3cret"))
	first := push(repo, "main", "one")
	second := push(repo, "main", "two")
	push(repo, "work", "three")
	number, err := s.OpenPullRequest(ctx, repo, githubtest.PullRequest{Head: "work", Base: "main", Author: "ada", Labels: []string{"preview"}})
	must(err)
	fourth := push(repo, "work", "four")
	_, _, answer := call(t, s, "POST", "app/installations/9/access_tokens", sign(t, jwt.SigningMethodRS256, newKey(), claims(nil)), nil)
	run := map[string]any{"name": "skep/check", "head_sha": fourth, "status": "completed", "conclusion": "failure"}
	if status, _, answer := call(t, s, "POST", "repos/octo/homelab/check-runs", fmt.Sprint(answer["token"]), run); status != 201 {
		t.Fatalf("a check run: %d %v", status, answer)
	}
	must(s.Rerequest(ctx, repo, fourth, "skep/check", "ada"))
	must(s.Label(ctx, repo, number, "ada", "urgent"))
	id, err := s.Comment(ctx, repo, number, "ada", "/skep plan \u2192")
	must(err)
	must(s.ClosePullRequest(ctx, repo, number, "ada"))
	must(s.ReopenPullRequest(ctx, repo, number, "ada"))
	fork, err := s.OpenPullRequest(ctx, repo, githubtest.PullRequest{Head: "main", Base: "main", Author: "mallory", Fork: true})
	must(err)
	// Somebody pushes with Git itself, and removes a branch.
	removed := exec.CommandContext(ctx, "git", "--git-dir", s.Path(repo), "update-ref", "-d", "refs/heads/work")
	removed.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
	must(removed.Run())
	must(s.Sync(ctx, repo, "ada"))

	var events []string
	for _, d := range s.Deliveries() {
		if d.Status != 200 || d.Err != nil {
			t.Errorf("%s was answered %d, %v", d.Event, d.Status, d.Err)
		}
		var p struct {
			Action       string `json:"action"`
			Ref          string `json:"ref"`
			Before       string
			After        string
			Installation *struct{ ID int } `json:"installation"`
			Repository   struct {
				FullName string `json:"full_name"`
			}
			HeadCommit struct {
				Added, Modified []string
			} `json:"head_commit"`
			PullRequest struct {
				Head struct {
					Repo struct {
						FullName string `json:"full_name"`
					}
				}
			} `json:"pull_request"`
			Comment struct {
				ID   int64
				Body string
			}
		}
		must(json.Unmarshal(d.Payload, &p))
		if p.Installation != nil {
			continue // the App's hook has the same
		}
		events = append(events, d.Event+strings.TrimRight(" "+p.Action+p.Ref, " "))
		switch {
		case d.Event == "push" && p.After == string(second):
			if p.Before != string(first) || !slices.Equal(p.HeadCommit.Modified, []string{"a file"}) {
				t.Errorf("the second push is %s", d.Payload)
			}
		case d.Event == "push" && p.After == string(first):
			if strings.Trim(p.Before, "0") != "" || !slices.Equal(p.HeadCommit.Added, []string{"a file", "bin/run"}) {
				t.Errorf("the first push is %s", d.Payload)
			}
		case d.Event == "issue_comment":
			if p.Comment.ID != id || p.Comment.Body != "/skep plan \u2192" {
				t.Errorf("the comment is %+v", p.Comment)
			}
		case p.Action == "opened" && strings.Contains(string(d.Payload), fmt.Sprintf(`"number":%d,`, fork)):
			if p.PullRequest.Head.Repo.FullName != "mallory/homelab" || p.Repository.FullName != string(repo) {
				t.Errorf("the fork's is %s", d.Payload)
			}
		}
	}
	want := []string{
		"ping", "ping", "push refs/heads/main", "push refs/heads/main", "push refs/heads/work", "pull_request opened", "push refs/heads/work", "pull_request synchronize",
		"check_run rerequested", "pull_request labeled", "issue_comment created", "pull_request closed", "pull_request reopened", "pull_request opened", "push refs/heads/work",
	}
	if !slices.Equal(events, want) {
		t.Errorf("the events are\n%q; want\n%q", events, want)
	}

	seen := map[string]bool{}
	for i, r := range box.got {
		id, event := r.Header.Get("X-GitHub-Delivery"), r.Header.Get("X-GitHub-Event")
		if githubtest.Sign("s3cret", box.body[i]) != r.Header.Get("X-Hub-Signature-256") || seen[id] || event == "" || !strings.HasPrefix(r.UserAgent(), "GitHub-Hookshot/") {
			t.Errorf("delivery %d came with %v", i, r.Header)
		}
		seen[id] = true
	}
	// The last one again, to a server that fails.
	last := s.Deliveries()[len(box.got)-1]
	box.code = http.StatusInternalServerError
	must(s.Redeliver(ctx, last.ID))
	again := len(box.got) - 1
	if box.got[again].Header.Get("X-GitHub-Delivery") != last.ID || !bytes.Equal(box.body[again], last.Payload) || s.Deliveries()[again-1].Status != 500 {
		t.Errorf("a redelivery came with %v", box.got[again].Header)
	}
}

// TestSign has the example of GitHub's documentation.
// https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
func TestSign(t *testing.T) {
	const want = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	if got := githubtest.Sign("It's a Secret to Everybody", []byte("Hello, World!")); got != want {
		t.Errorf("the signature is %s, want %s", got, want)
	}
}

// TestPages follows the Link headers.
func TestPages(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	if _, err := s.Push(ctx, repo, "main", "ada", map[string]githubtest.File{"a": {Content: "b"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Push(ctx, repo, "work", "ada", map[string]githubtest.File{"a": {Content: "c"}}); err != nil {
		t.Fatal(err)
	}
	number, err := s.OpenPullRequest(ctx, repo, githubtest.PullRequest{Head: "work", Base: "main", Author: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 65 {
		if _, err := s.Comment(ctx, repo, number, "ada", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	path := fmt.Sprintf("repos/octo/homelab/issues/%d/comments?per_page=30&page=2", number)
	_, header, _ := call(t, s, "GET", path, token, nil)
	link := func(page int, rel string) string {
		return fmt.Sprintf(`<%srepos/octo/homelab/issues/%d/comments?page=%d&per_page=30>; rel="%s"`, s.URL(), number, page, rel)
	}
	if want := strings.Join([]string{link(1, "prev"), link(3, "next"), link(3, "last"), link(1, "first")}, ", "); header.Get("Link") != want {
		t.Errorf("Link is %s; want %s", header.Get("Link"), want)
	}
	if _, header, _ := call(t, s, "GET", strings.Replace(path, "page=2", "page=3", 1), token, nil); strings.Contains(header.Get("Link"), "next") {
		t.Errorf("the last page has %s", header.Get("Link"))
	}
}

// TestClose: nothing is left running, and a context ends deliveries.
func TestClose(t *testing.T) {
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Hook(ctx, repo, "http://127.0.0.1:1/", "x"); err == nil {
		t.Error("a hook is pinged after its context ended")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get(s.URL()); err == nil {
		t.Error("it still answers")
	}
}
