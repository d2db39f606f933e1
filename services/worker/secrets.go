package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"skep/secrets"
	"skep/services/worker/output"
)

// secrets has the Swarm given what the stacks want. Their versions are kept for
// the steps that follow: what a job writes may be gone with it.
func (a *attempt) secrets(ctx context.Context) error {
	if !a.syncs() {
		return nil
	}
	exit, err := a.ask(ctx, "secrets", true, "secrets", "sync", "--json")
	if err != nil {
		return err
	}
	var said struct {
		Locked  secrets.Lock `json:"locked"`
		Actions []struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
			Why  string `json:"why"`
		} `json:"actions"`
	}
	understood := json.Unmarshal(exit.Answer, &said) == nil
	for _, one := range said.Actions {
		if one.Kind == "failed" {
			return a.fail(fmt.Errorf("skep secrets sync: %s: %s", one.Name, a.masked(one.Why)))
		}
	}
	if exit.Code != exitDone || !understood {
		return a.broken("skep secrets sync", exit)
	}
	return a.replace("secrets.lock", said.Locked.Marshal())
}

// syncs reports whether a deploy reads the store of secrets first.
func (a *attempt) syncs() bool {
	_, ok := a.w.Environment["OP_CONNECT_HOST"]
	return ok
}

// recallVersions has a plan count with the versions that the Swarm has, by its
// labels, as a deploy does not go by the lock of the tree either. A plan asks no
// store, and a fork's would not get to.
func (a *attempt) recallVersions(ctx context.Context) error {
	if !a.syncs() {
		return nil
	}
	exit, err := a.ask(ctx, "lock", true, "secrets", "lock", "--json")
	if err != nil {
		return err
	}
	var said struct {
		Locked secrets.Lock `json:"locked"`
	}
	if exit.Code != exitDone || json.Unmarshal(exit.Answer, &said) != nil {
		return a.broken("skep secrets lock", exit)
	}
	return a.replace("secrets.lock", said.Locked.Marshal())
}

// masked is a text of a job's answer as it may be shown.
func (a *attempt) masked(text string) string {
	var hide [][]byte
	for _, value := range a.w.Secrets {
		if content, err := value.Bytes(); err == nil { // a wiped one is in no answer
			hide = append(hide, content)
		}
	}
	return string(output.NewMask(hide...).Bytes([]byte(text)))
}

// replace writes a file beside the cluster file, and nowhere else if there is a
// link of that name.
func (a *attempt) replace(name string, content []byte) error {
	root, err := os.OpenRoot(a.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	name = filepath.Join(filepath.FromSlash(a.project.Folder), name)
	if err := root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return a.fail(err)
	}
	if err := root.WriteFile(name, content, 0o644); err != nil {
		return a.fail(err)
	}
	return nil
}
