package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// expect checks that there is one finding, and what it is.
func expect(t *testing.T, got []Finding, verdict Verdict, text string) {
	t.Helper()
	if len(got) != 1 || got[0].Verdict != verdict || !strings.Contains(got[0].Text, text) || (verdict == Fine) != (got[0].Remedy == "") {
		t.Errorf("got %+v, want %s with %q", got, verdict, text)
	}
}

func TestAuthority(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	node := swarm.Node{Description: swarm.NodeDescription{Hostname: "n1", TLSInfo: swarm.TLSInfo{TrustRoot: root}}}
	stranger := swarm.Node{Description: swarm.NodeDescription{Hostname: "n2", TLSInfo: swarm.TLSInfo{TrustRoot: "another"}}}
	before := func(d time.Duration) Vitals { return Vitals{TrustRoot: root, Asked: end.Add(-d)} }
	expect(t, authority(before(1000*time.Hour), []swarm.Node{node}), Fine, "until 2030-01-31")
	expect(t, authority(before(100*time.Hour), []swarm.Node{node}), Warning, "expires on 2030-01-31")
	expect(t, authority(before(-time.Second), []swarm.Node{node}), Broken, "expired on 2030-01-31")
	expect(t, authority(before(1000*time.Hour), []swarm.Node{node, stranger}), Warning, "n2 trust another")
	expect(t, authority(Vitals{TrustRoot: "nonsense"}, nil), Warning, "no PEM")
	rotating := before(1000 * time.Hour)
	rotating.RootRotation = true
	expect(t, authority(rotating, []swarm.Node{node, stranger}), Warning, "being replaced")
	if got := authority(Vitals{}, nil); got != nil {
		t.Errorf("of nothing it says %+v", got)
	}
}

func TestNodeClocks(t *testing.T) {
	made := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	// task is one that a node took a second to start, by a clock that is off,
	// some time after the first.
	task := func(node string, state swarm.TaskState, later, off time.Duration) swarm.Task {
		at := made.Add(later)
		return swarm.Task{
			NodeID: node, Meta: swarm.Meta{CreatedAt: at, UpdatedAt: at.Add(time.Second)},
			Status: swarm.TaskStatus{State: state, Timestamp: at.Add(500*time.Millisecond + off)},
		}
	}
	nodes := []swarm.Node{{ID: "1", Description: swarm.NodeDescription{Hostname: "n1"}}, {ID: "2", Description: swarm.NodeDescription{Hostname: "n2"}}}
	good, running := task("1", swarm.TaskStateRunning, 0, 0), swarm.TaskStateRunning
	for name, c := range map[string]struct {
		task    swarm.Task
		verdict Verdict
		text    string
	}{
		"true":                         {task("2", running, 0, 0), Fine, "2 nodes"},
		"ahead":                        {task("2", running, 0, time.Minute), Warning, "n2 is ahead by 1m0s"},
		"behind":                       {task("2", running, 0, -time.Minute), Warning, "n2 is behind by 1m0s"},
		"by a manager's stamp":         {task("2", swarm.TaskStateOrphaned, 0, time.Minute), Fine, "1 nodes"},
		"set right before a newer one": {task("1", running, -time.Hour, time.Minute), Fine, "1 nodes"},
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, nodeClocks(Live{Nodes: nodes, Tasks: []swarm.Task{good, c.task}}), c.verdict, c.text)
		})
	}
}

func TestSecretDrivers(t *testing.T) {
	node := func(name string, manager bool, plugins ...string) swarm.Node {
		n := swarm.Node{Description: swarm.NodeDescription{Hostname: name}}
		if manager {
			n.ManagerStatus = &swarm.ManagerStatus{}
		}
		for _, p := range plugins {
			n.Description.Engine.Plugins = append(n.Description.Engine.Plugins, swarm.PluginDescription{Type: "secretprovider", Name: p})
		}
		return n
	}
	secret := swarm.Secret{Spec: swarm.SecretSpec{Driver: &swarm.Driver{Name: "op"}}}
	all := []swarm.Node{node("n1", true, "op:latest"), node("n2", true, "other"), node("n3", false)}
	expect(t, secretDrivers(Live{Secrets: []swarm.Secret{secret, secret}, Nodes: all[:1]}), Fine, "op is enabled")
	expect(t, secretDrivers(Live{Secrets: []swarm.Secret{secret}, Nodes: all}), Warning, "on n2;")
	if got := secretDrivers(Live{Secrets: []swarm.Secret{{}}, Nodes: all}); got != nil {
		t.Errorf("without a driver it says %+v", got)
	}
}

func TestEncryptedNetworks(t *testing.T) {
	live := Live{Nodes: make([]swarm.Node, 2), Networks: []network.Network{{Name: "plain"}, {Name: "hidden", Options: map[string]string{encryptedOption: ""}}}}
	expect(t, encryptedNetworks(live), Fine, "hidden: not tried")
	live.Nodes = live.Nodes[:1]
	if got := encryptedNetworks(live); got != nil {
		t.Errorf("of one node it says %+v", got)
	}
}
