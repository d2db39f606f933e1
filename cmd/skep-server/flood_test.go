package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/github/githubtest"
	"skep/services/controlplane/webhook"
)

// shipment is a delivery to the server and the answer that it must get.
type shipment struct {
	source string
	id     string
	body   string
	forged bool
	size   int64 // that is announced, if it is more than the body
	status int
}

func (s shipment) headers() http.Header {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("X-GitHub-Event", "push")
	h.Set("X-GitHub-Delivery", s.id)
	secret := hookSecret
	if s.forged {
		secret += "x"
	}
	h.Set("X-Hub-Signature-256", githubtest.Sign(secret, []byte(s.body)))
	return h
}

func (s shipment) path() string { return webhook.Path + "github/" + s.source }

func (s shipment) send(client *http.Client, address string) (int, error) {
	if s.size > 0 {
		return s.announce(address)
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+address+s.path(), strings.NewReader(s.body))
	if err != nil {
		return 0, err
	}
	r.Header = s.headers()
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, errors.Join(err, answer.Body.Close())
}

// announce sends the size and a beginning. The answer comes before the rest.
func (s shipment) announce(address string) (status int, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	var request bytes.Buffer
	fmt.Fprintf(&request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", s.path(), address, s.size)
	if err := s.headers().Write(&request); err != nil {
		return 0, err
	}
	request.WriteString("\r\n" + s.body)
	if _, err := conn.Write(request.Bytes()); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

func pushOf(repository controlplane.Repository, branch string, c controlplane.Commit) string {
	owner, _, _ := strings.Cut(string(repository), "/")
	return fmt.Sprintf(`{"ref":"refs/heads/%s","before":"%040d","after":"%s","deleted":false,"sender":{"login":"ann","id":1,"type":"User"},`+
		`"pusher":{"name":"ann"},"repository":{"id":1,"full_name":%q,"owner":{"login":%q},"default_branch":"main"}}`, branch, 0, c, repository, owner)
}

// peak is the most memory that a process ever had, in MiB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatal("the kernel does not say how much memory there was")
	return 0
}

// maxServer is what a server may take, in MiB. It holds no delivery after its
// answer, so the number of deliveries does not count.
const maxServer = 256

// Ten thousand deliveries to the real server, a tenth of them replays, 5%
// forged, 1% too large, in no order: each good one is stored once, those that
// ask for a check start one run each, and memory is bounded. SKEP_SOAK=1 sends
// twenty times as many.
func TestDeliveryFlood(t *testing.T) {
	total, checks := 10_000, 200
	if os.Getenv("SKEP_SOAK") == "1" {
		total, checks = 20*total, 20*checks
	}
	f := newFaulty(t, 4)
	commit := f.push("flooded", "")
	_, err := f.store.PutIntegration(t.Context(), controlplane.Integration{
		Provider: controlplane.GitHub, Name: "idle",
		Settings: map[string]string{github.BaseURL: f.hub.URL(), github.AppID: "7", github.Installation: "70"},
	}, map[string]secrets.Value{github.PrivateKey: secrets.NewValue([]byte("never used"))})
	if err != nil {
		t.Fatal(err)
	}
	idle, err := f.store.PutSource(t.Context(), controlplane.Source{
		Provider: controlplane.GitHub, Name: "idle", Integration: "idle", Secret: secrets.NewValue([]byte(hookSecret)),
	})
	if err != nil {
		t.Fatal(err)
	}

	random := rand.New(rand.NewPCG(5, 10))
	good := map[string]string{} // sources by id
	var all, fine []shipment
	for i := range total {
		s := shipment{source: "idle", id: fmt.Sprintf("flood-%07d", i), body: pushOf("acme/nowhere", "main", commit), status: http.StatusOK}
		if i < checks {
			// A branch that no cluster follows is checked; each has a queue of its own.
			s.source, s.body = "default", pushOf(f.repository("flooded"), fmt.Sprintf("change-%d", i), commit)
		}
		switch p := random.IntN(100); {
		case i < checks:
		case p < 5:
			s.forged, s.status = true, http.StatusUnauthorized
		case p < 6:
			s.size, s.status = webhook.MaxBody+1, http.StatusRequestEntityTooLarge
		case p < 16:
			s = fine[random.IntN(len(fine))]
		}
		if s.status == http.StatusOK {
			good[s.id] = s.source
			fine = append(fine, s)
		}
		all = append(all, s)
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: time.Minute}
	work := make(chan shipment)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for s := range work {
				if status, err := s.send(client, f.address); err != nil || status != s.status {
					t.Errorf("%s: %d, %v, want %d", s.id, status, err, s.status)
				}
			}
		})
	}
	for _, s := range all {
		work <- s
	}
	close(work)
	senders.Wait()
	client.CloseIdleConnections()

	f.awaitNone("deliveries that wait", "delivery WHERE state = 'stored'")
	f.awaitNone("runs that are not done", "run WHERE state <> 'succeeded'")
	f.arrived(good)
	if n := f.stored(fmt.Sprintf("delivery WHERE source_id = %d AND state <> 'ignored'", idle.ID)); n != 0 {
		t.Errorf("%d that concern nobody are not ignored", n)
	}
	if n := f.stored("run WHERE kind = 'check'"); n != checks {
		t.Errorf("%d runs of %d", n, checks)
	}
	// Branches at one commit share its state; the runs of several at once may
	// leave a check run open below the newest one.
	if r := f.hub.Reports(f.repository("flooded"), commit); len(r) != 1 || r[0].State != "success" {
		t.Errorf("the commit has %+v", r)
	}
	got := peak(t, f.server.Pid)
	t.Logf("%d deliveries, %d runs: the server had %d MiB at most, the worker %d, the engine %d", total, checks,
		got, peak(t, f.child("-child")), peak(t, f.child("engine")))
	if got > maxServer {
		t.Errorf("the server had %d MiB", got)
	}
	f.end()
}

// arrived compares what is stored with what was good.
func (f *faulty) arrived(good map[string]string) {
	f.Helper()
	conn, err := pgx.Connect(f.Context(), f.database)
	if err != nil {
		f.Fatal(err)
	}
	defer conn.Close(f.Context())
	rows, err := conn.Query(f.Context(), "SELECT d.delivery_id, s.name FROM skep.delivery d JOIN skep.source s ON s.id = d.source_id WHERE d.delivery_id LIKE 'flood-%'")
	if err != nil {
		f.Fatal(err)
	}
	var id, source string
	n := 0
	if _, err := pgx.ForEachRow(rows, []any{&id, &source}, func() error {
		n++
		if good[id] != source {
			f.Errorf("%s should not be there, from %s", id, source)
		}
		return nil
	}); err != nil {
		f.Fatal(err)
	}
	if n != len(good) {
		f.Errorf("%d are stored of %d", n, len(good))
	}
}
