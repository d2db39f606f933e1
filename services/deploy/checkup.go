package deploy

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"
)

// expiresSoon is how long before its end a certificate is worth a warning.
const expiresSoon = 30 * 24 * time.Hour

// authority judges the certificate that all nodes trust. Those of the nodes
// are renewed by Swarm, and no API shows them.
func authority(v Vitals, all []swarm.Node) []Finding {
	if v.TrustRoot == "" {
		return nil // engines before 17.06, or a proxy that hides it
	}
	f := Finding{Check: "certificates", Verdict: Warning}
	var certificate *x509.Certificate
	block, _ := pem.Decode([]byte(v.TrustRoot))
	err := fmt.Errorf("it is no PEM")
	if block != nil {
		certificate, err = x509.ParseCertificate(block.Bytes)
	}
	if err != nil {
		f.Text, f.Remedy = fmt.Sprintf("the certificate of Swarm's authority cannot be read: %v", err), "`docker swarm ca` shows it"
		return []Finding{f}
	}
	var other []string
	for _, n := range all {
		if root := n.Description.TLSInfo.TrustRoot; root != "" && strings.TrimSpace(root) != strings.TrimSpace(v.TrustRoot) {
			other = append(other, n.Description.Hostname)
		}
	}
	end := certificate.NotAfter.UTC().Format(time.DateOnly)
	left := certificate.NotAfter.Sub(v.Asked)
	switch {
	case left <= 0:
		f.Verdict, f.Text, f.Remedy = Broken, "Swarm's authority expired on "+end, "`docker swarm ca --rotate` makes a new one"
	case v.RootRotation:
		f.Text, f.Remedy = "Swarm's authority is being replaced", "wait; it ends when every node that is listed was up once, so start or remove those that are down"
	case len(other) > 0:
		f.Text, f.Remedy = strings.Join(other, ", ")+" trust another authority than the Swarm", "start them and wait; if it stays so, let them leave the Swarm and join again"
	case left < expiresSoon:
		f.Text, f.Remedy = "Swarm's authority expires on "+end, "`docker swarm ca --rotate` makes a new one"
	default:
		f.Verdict, f.Text = Fine, "Swarm's authority is valid until "+end
	}
	return []Finding{f}
}

// nodeClocks compares the clock of each node with the managers'. A node stamps
// the state of its tasks; a manager stamps when it made the task and when it
// stored the state. Between those two the node's own stamp must lie, so what is
// outside is the least by which its clock is off.
func nodeClocks(live Live) []Finding {
	newest := map[string]swarm.Task{}
	for _, t := range live.Tasks {
		switch t.Status.State { // those that the node itself says
		case swarm.TaskStatePreparing, swarm.TaskStateStarting, swarm.TaskStateRunning, swarm.TaskStateComplete, swarm.TaskStateFailed:
			if last, ok := newest[t.NodeID]; t.NodeID != "" && (!ok || t.UpdatedAt.After(last.UpdatedAt)) {
				newest[t.NodeID] = t
			}
		}
	}
	var off []string
	for _, n := range live.Nodes {
		t, ok := newest[n.ID]
		if !ok {
			continue
		}
		if ahead := t.Status.Timestamp.Sub(t.UpdatedAt); ahead > maxSkew {
			off = append(off, fmt.Sprintf("%s is ahead by %v or more", n.Description.Hostname, ahead.Round(time.Second)))
		}
		if behind := t.CreatedAt.Sub(t.Status.Timestamp); behind > maxSkew {
			off = append(off, fmt.Sprintf("%s is behind by %v or more", n.Description.Hostname, behind.Round(time.Second)))
		}
	}
	if len(off) > 0 {
		return []Finding{{"node clocks", Warning, "when they started their newest tasks: " + strings.Join(off, ", "), "set the clocks by NTP, with chrony for example"}}
	}
	if len(newest) == 0 {
		return nil
	}
	return []Finding{{Check: "node clocks", Verdict: Fine, Text: fmt.Sprintf("the tasks of %d nodes show no difference to the managers", len(newest))}}
}

// secretDrivers looks on every manager for the plugins that secrets are read
// with: whichever leads asks its own.
func secretDrivers(live Live) []Finding {
	var out []Finding
	var drivers []string
	for _, s := range live.Secrets {
		if d := s.Spec.Driver; d != nil && !slices.Contains(drivers, d.Name) {
			drivers = append(drivers, d.Name)
		}
	}
	slices.Sort(drivers)
	for _, driver := range drivers {
		var without []string
		for _, n := range live.Nodes {
			has := slices.ContainsFunc(n.Description.Engine.Plugins, func(p swarm.PluginDescription) bool {
				return strings.EqualFold(p.Type, "secretprovider") && strings.TrimSuffix(p.Name, ":latest") == strings.TrimSuffix(driver, ":latest")
			})
			if n.ManagerStatus != nil && !has {
				without = append(without, n.Description.Hostname)
			}
		}
		f := Finding{Check: "secret driver", Verdict: Fine, Text: driver + " is enabled on every manager"}
		if len(without) > 0 {
			f.Verdict, f.Text = Warning, fmt.Sprintf("%s has no managed plugin on %s; when one of them leads, no task that needs its secrets starts", driver, strings.Join(without, ", "))
			f.Remedy = "create and enable the plugin there; the Swarm does not list one that runs as a socket: check by hand that its process is up"
		}
		out = append(out, f)
	}
	return out
}

// encryptedNetworks names what no API tells: whether encrypted packets arrive.
func encryptedNetworks(live Live) []Finding {
	var names []string
	for _, n := range live.Networks {
		if encrypted(n.Options) == "true" {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 || len(live.Nodes) < 2 {
		return nil
	}
	slices.Sort(names)
	return []Finding{{Check: "encrypted networks", Verdict: Fine, Text: strings.Join(names, ", ") +
		": not tried. Between all nodes IP protocol 50 (ESP) must pass and the kernels need IPsec, or packets are lost without an error"}}
}
