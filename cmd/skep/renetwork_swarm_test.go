package main

import (
	"strings"
	"testing"
)

// A network that cannot be changed in place is replaced with the services on
// it; one that others are on is not, and a failure brings the old one back.
func TestNetworkReplacedOnASwarm(t *testing.T) {
	b := newDeployBed(t)
	app := strings.NewReplacer("networks: {shared: {external: true}}", "networks: {shared: {external: true}, back: {ipam: {config: [{subnet: 10.77.1.0/24}]}}}",
		"networks: {default: {}, shared: {}}", "networks: {back: {}, shared: {}}").Replace(deployApp)
	write := func(replace ...string) { b.write("app/stack.yaml", strings.NewReplacer(replace...).Replace(app)) }
	subnet := func() string {
		return docker(t, b.s, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "app_back")
	}
	write()
	b.skep(t, exitDone, "deploy")
	if got := subnet(); got != "10.77.1.0/24" {
		t.Fatalf("the network has %s", got)
	}
	job := b.inspect(t, "app_migrate", "{{.ID}}")

	write("10.77.1.0", "10.77.2.0")
	contains(t, b.skep(t, exitDone, "plan"), "-/+ network app_back (stops and moves app_web)", "subnet: 10.77.1.0/24 -> 10.77.2.0/24", "-/+ service app_web (network app_back is replaced)")
	contains(t, b.skep(t, exitDone, "deploy"), "removed network app_back", "created network app_back", "service app_web is up")
	if got := subnet(); got != "10.77.2.0/24" {
		t.Errorf("the network has %s", got)
	}
	if got := b.inspect(t, "app_migrate", "{{.ID}}"); got != job {
		t.Error("the job, which is not on the network, ran again")
	}
	contains(t, b.skep(t, exitDone, "plan", "--detailed-exitcode"), "No changes")

	write("10.77.1.0", "10.77.3.0", "image: whoami:0.1\n    environment", "image: whoami:0.2\n    environment")
	contains(t, b.skep(t, exitFailed, "deploy", "--timeout", "1m"), "is back at what it was")
	if got := subnet(); got != "10.77.2.0/24" {
		t.Errorf("after a failure the network has %s", got)
	}
	contains(t, b.skep(t, exitDone, "status"), "2/2")

	docker(t, b.s, "service", "create", "--detach", "--name", "other", "--network", "app_back", "--endpoint-mode", "dnsrr", "--replicas", "0", "--no-resolve-image", "whoami:0.1")
	write("10.77.1.0", "10.77.3.0")
	contains(t, b.skep(t, exitFailed, "deploy"), "network app_back cannot be changed in place", "other would have to stop")
	b.write("cluster.yaml", strings.Replace(deployCluster, "shared: {internal: true}", "shared: {internal: false}", 1))
	contains(t, b.skep(t, exitFailed, "plan"), "network shared cannot be changed in place", "app_web")
}
