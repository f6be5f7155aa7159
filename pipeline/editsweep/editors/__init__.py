"""The editors, by name. One method is one file; no editor imports another."""

from editsweep.core.registry import Registry

EDITORS = Registry(
    kind="editor",
    group="editsweep.editors",
    table={
        "none": "editsweep.editors.none:NoneSpec",
        "ft": "editsweep.editors.ft:FtSpec",
        "ft-l": "editsweep.editors.ft_l:FtlSpec",
        "ft-w": "editsweep.editors.ft_w:FtwSpec",
        "lora": "editsweep.editors.lora:LoraSpec",
        "adalora": "editsweep.editors.adalora:AdaLoraSpec",
        "rome": "editsweep.editors.rome:RomeSpec",
        "r-rome": "editsweep.editors.r_rome:RRomeSpec",
        "memit": "editsweep.editors.memit:MemitSpec",
        "pmet": "editsweep.editors.pmet:PmetSpec",
        "emmet": "editsweep.editors.emmet:EmmetSpec",
        "alphaedit": "editsweep.editors.alphaedit:AlphaEditSpec",
        "ike": "editsweep.editors.ike:IkeSpec",
        "ke": "editsweep.editors.ke:KeSpec",
        "mend": "editsweep.editors.mend:MendSpec",
        "malmen": "editsweep.editors.malmen:MalmenSpec",
        "enn": "editsweep.editors.enn:EnnSpec",
        "ultraedit": "editsweep.editors.ultraedit:UltraEditSpec",
    },
)
