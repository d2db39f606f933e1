package bundle

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/schema"
	composetypes "github.com/docker/cli/cli/compose/types"
)

// portion is how many stacks are held against Docker's schema at once.
const portion = 32

// Validate holds every stack against the loader that `docker stack deploy`
// runs, and returns what it refuses by stack.
func (b *Bundle) Validate() map[Name]error {
	portions := make(chan []*Stack)
	refused := map[Name]error{}
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(b.Stacks)/portion+1) {
		workers.Go(func() {
			for stacks := range portions {
				for i, err := range validate(stacks) {
					if err != nil {
						mu.Lock()
						refused[stacks[i].Name] = err
						mu.Unlock()
					}
				}
			}
		})
	}
	for stacks := range slices.Chunk(b.Stacks, portion) {
		portions <- stacks
	}
	close(portions)
	workers.Wait()
	return refused
}

// validate answers for each of some stacks.
//
// The loader compiles its JSON Schema anew for each file, which costs more
// than all the rest. The schema looks at each service, network and so on by
// itself, so the sections of the stacks are checked as one big file first; only
// when that fails is each stack checked alone, to name it.
func validate(stacks []*Stack) []error {
	contents := make([]Compose, len(stacks))
	together := map[string]map[string]any{}
	for i, s := range stacks {
		contents[i] = s.Compose()
		version, _ := contents[i]["version"].(string)
		all := together[version]
		if all == nil {
			all = map[string]any{"version": version}
			together[version] = all
		}
		for key, v := range contents[i] {
			section, ok := v.(map[string]any)
			if !ok {
				continue
			}
			into, _ := all[key].(map[string]any)
			if into == nil {
				into = map[string]any{}
				all[key] = into
			}
			for name, def := range section {
				into[strconv.Itoa(i)+"-"+name] = def
			}
		}
	}
	valid := true
	for version, all := range together {
		valid = valid && schema.Validate(all, version) == nil
	}
	errs := make([]error, len(stacks))
	for i, s := range stacks {
		errs[i] = contents[i].load(s.Name, valid)
	}
	return errs
}

func (c Compose) load(name Name, schemaChecked bool) error {
	_, err := loader.Load(composetypes.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []composetypes.ConfigFile{{Filename: string(name) + ".yaml", Config: c}},
	}, func(o *loader.Options) {
		o.SkipValidation = schemaChecked
		o.SkipInterpolation = true // what Encode escapes reads as it stands here
	})
	if err != nil {
		return fmt.Errorf("docker refuses %s.yaml: %s", name, strings.TrimSpace(err.Error()))
	}
	return nil
}
