package process

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// relay lets a job that sees another file system reach the engine's socket, for
// as long as the job runs.
type relay struct {
	listener *net.UnixListener
	socket   string
	all      sync.WaitGroup

	mu    sync.Mutex
	open  map[net.Conn]bool
	ended bool
}

// relayDocker puts a socket into the job's file system if the engine has one in
// this machine's.
func (p *place) relayDocker(env map[string]string) error {
	socket, ok := hostFile(env["DOCKER_HOST"])
	if !ok {
		return nil
	}
	// The path of a socket has 107 bytes at most, and this folder's may have
	// more.
	run, err := os.Open(p.path("run"))
	if err != nil {
		return err
	}
	defer run.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/docker.sock", run.Fd())
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: short})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false) // it goes with the folder
	p.relay = &relay{listener: listener, socket: socket, open: map[net.Conn]bool{}}
	p.relay.all.Go(p.relay.accept)
	env["DOCKER_HOST"] = "unix:///run/docker.sock"
	return os.Chmod(short, 0o600)
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return // it is closed
		}
		r.all.Go(func() { r.serve(conn) })
	}
}

func (r *relay) serve(job net.Conn) {
	defer job.Close()
	engine, err := net.Dial("unix", r.socket)
	if err != nil {
		return // the job sees a connection that ends, and says so
	}
	defer engine.Close()
	if !r.enter(job, engine) {
		return
	}
	defer r.leave(job, engine)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{job, engine}, {engine, job}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // an end is an end
			if half, ok := way[0].(*net.UnixConn); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}

func (r *relay) enter(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.open[c] = true
	}
	return !r.ended
}

func (r *relay) leave(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		delete(r.open, c)
	}
}

// close ends all connections and waits for them.
func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for c := range r.open {
		c.Close()
	}
	r.mu.Unlock()
	r.all.Wait()
}
