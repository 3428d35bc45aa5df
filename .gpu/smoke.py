import time, torch, json, sys, traceback
from dataclasses import replace
torch.set_float32_matmul_precision("high")
from sora_dit.dit_core.training import starter as S
from sora_dit.dit_core.training.autoencoder import *
from sora_dit.dit_core.training.transformer import *
from sora_dit.dit_core.training.sky_data import *
from sora_dit.dit_core.training.loop import LoopSettings
from sora_dit.dit_core.autoencoder import *
from sora_dit.dit_core.transformer import *
from sora_dit.dit_core.text import TextEncoder
dev=torch.device("cuda"); print(torch.__version__, torch.cuda.get_device_name(), flush=True)
t00=time.time()
def T(name): print(f"[{time.time()-t00:.1f}s] {name}", flush=True)
def guard(f):
    try: f()
    except Exception: traceback.print_exc()
src=S.AUTOENCODER_SOURCE
def rend():
    src.clips(0,64,dev); torch.cuda.synchronize(); t=time.time()
    for i in range(5): src.clips(64*i,64,dev)
    torch.cuda.synchronize(); print("render clips/s", 320/(time.time()-t)); torch.cuda.reset_peak_memory_stats()
    c=src.clips(0,4,dev).cpu(); g=src.clips(0,4,torch.device("cpu")); print("cpu/gpu diff", (c-g).abs().max(), (c-g).abs().mean())
guard(rend); T("render")
def ae(cl, opt, lr, secs, batch=16):
    import pathlib, shutil
    torch._dynamo.reset()
    lines=[]
    f=pathlib.Path(f"/tmp/ae_{opt}_{cl}_{lr}"); 
    model=CausalVideoAutoencoder(S.AUTOENCODER).to(dev)
    if cl: model=model.to(memory_format=torch.channels_last_3d)
    opts=make_optimisers({"a":model},opt,lr,0.01); tr=AutoencoderTraining()
    model.encoder.compile(); model.decoder.compile()
    step=0; t=None; ps=[]
    end=None
    while True:
        v=src.clips(step*batch,batch,dev)
        with torch.autocast("cuda",torch.bfloat16): got,post=model(v)
        terms=reconstruction_loss(got.float(),v,tr); terms["kl"]=post.kl()
        (terms["absolute"]+4*terms["squared"]+.5*terms["edges"]+2e-4*terms["kl"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(),1.0)
        w=min(1,(step+1)/50)
        for o in opts:
            for g in o.param_groups: g["lr"]=lr*w
            o.step(); o.zero_grad()
        ps.append(terms["squared"].detach())
        step+=1
        if step==4: torch.cuda.synchronize(); t=time.time()
        if step>4 and step%20==0:
            torch.cuda.synchronize()
            if time.time()-t>secs: break
    dt=time.time()-t
    m=torch.stack(ps).cpu()
    print(f"AE cl={cl} opt={opt} lr={lr} steps={step} clips/s={(step-4)*batch/dt:.1f} psnr last20={-10*torch.log10(m[-20:].mean()/4):.2f} mid={-10*torch.log10(m[len(m)//2-10:len(m)//2+10].mean()/4):.2f} mem={torch.cuda.max_memory_allocated()/2**30:.1f}", flush=True)
guard(lambda: ae(False,"muon",2e-3,14)); T("ae muon")
guard(lambda: ae(True,"muon",2e-3,10)); T("ae muon cl")
guard(lambda: ae(False,"adamw",1e-3,14)); T("ae adamw")
def dit(patch, tokens_hw, batch):
    torch._dynamo.reset()
    cfg=replace(S.TRANSFORMER, patch=patch); m=VideoDiT(cfg).to(dev); text=TextEncoder.from_config(S.TEXT).to(dev)
    print("params", sum(p.numel() for p in m.parameters())/1e6, sum(p.numel() for p in text.module.parameters())/1e6)
    cache=LatentCache(torch.randn(2000,16,5,tokens_hw,tokens_hw,device=dev).half(), torch.randint(3,250,(2000,4,192),device=dev).short())
    import pathlib, shutil; f=pathlib.Path(f"/tmp/dit{patch[1]}"); shutil.rmtree(f,ignore_errors=True)
    t=time.time(); last=[]
    train_transformer(m,text,cache,f,LoopSettings(steps=30,batch=batch,log_every=10,warmup=5),TransformerTraining(),dev,lambda l:(last.append((time.time(),l))))
    a=last; print(f"DiT patch={patch} batch={batch} first10={a[0][0]-t:.1f}s samples/s={batch*20/(a[-1][0]-a[0][0]):.0f} loss={a[-1][1]['loss']} mem={torch.cuda.max_memory_allocated()/2**30:.1f}", flush=True)
guard(lambda: dit((1,2,2),16,256)); T("dit p2")
guard(lambda: dit((1,2,2),16,512)); T("dit p2 512")
guard(lambda: dit((1,1,1),12,256)); T("dit p1")
